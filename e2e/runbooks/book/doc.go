// Package book reads runbooks: front matter that says what a rehearsal has to set
// up and to hold it to, the fixed headings, and the commands with what they print.
// It runs nothing. The form is described, for authors, in deploy/runbooks/README.md.
//
// Invariants:
//
//	B1  Whatever a runbook says that a rehearsal would leave out is an error: an
//	    unknown key, a heading out of order, a command without an expected output.
package book
