package hashring

// Member is a node as the planner sees it.
type Member struct {
	ID     string
	Rack   string
	Weight int // relative share of partitions, >= 1; 0 means 1
}

// Table maps each partition to its owners, the primary first. It is immutable.
type Table struct {
	rows [][]string
}

// MakeTable wraps rows, one per partition; it keeps them.
func MakeTable(rows [][]string) Table { return Table{rows: rows} }

// Partitions is the number of partitions, a power of two.
func (t Table) Partitions() int { return len(t.rows) }

// Owners returns the owners of p, the primary first. The slice is shared.
func (t Table) Owners(p Partition) []string { return t.rows[p] }
