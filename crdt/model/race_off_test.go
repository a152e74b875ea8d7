//go:build !race

package model

const unitHistories = 20_000
