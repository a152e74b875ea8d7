//go:build race

package model

const unitHistories = 2_000
