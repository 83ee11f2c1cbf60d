package terminal

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"golang.org/x/term"
)

// WidthOf returns the number of columns of a line. A file or a pipe does not have a limit.
func WidthOf(w io.Writer) int {
	if !isTerminal(w) {
		return math.MaxInt32
	}
	columns, _, err := term.GetSize(int(w.(*os.File).Fd()))
	if err != nil || columns <= 0 {
		return Width
	}
	return max(columns, narrowest)
}

// The smallest widths of a terminal, and of a column that is narrowed.
const (
	narrowest       = 40
	narrowestColumn = 8
)

// gap is the space between two columns.
const gap = 2

// A Table is written in columns that are as wide as their widest cell. If it is wider than the
// terminal, the cells of the widest columns are cut. The zero value is empty.
type Table struct{ rows []*TableRow }

// A TableRow is a row of a table.
type TableRow struct {
	cells   []string
	colours []string
	isLine  bool
}

// IsEmpty reports whether the table does not have rows.
func (t *Table) IsEmpty() bool { return len(t.rows) == 0 }

// Row adds a row.
func (t *Table) Row(cells ...string) *TableRow {
	r := &TableRow{cells: cells, colours: make([]string, len(cells))}
	for i, cell := range cells {
		r.cells[i] = Clean(cell)
	}
	t.rows = append(t.rows, r)
	return r
}

// Line adds a line that does not belong to the columns.
func (t *Table) Line(text string) { t.Row(text).isLine = true }

// Colour sets the colour of a cell.
func (r *TableRow) Colour(cell int, colour string) *TableRow {
	r.colours[cell] = colour
	return r
}

// Write writes the table.
func (t *Table) Write(w io.Writer) error {
	width, paint := WidthOf(w), PaintFor(w)
	columns := t.columns(width)
	var b strings.Builder
	for _, r := range t.rows {
		if r.isLine {
			b.WriteString(Cut(r.cells[0], width) + "\n")
			continue
		}
		last := len(r.cells) - 1
		for last > 0 && r.cells[last] == "" {
			last--
		}
		for i, cell := range r.cells[:last+1] {
			if i == last {
				b.WriteString(paint.In(r.colours[i], Cut(cell, columns[i])) + "\n")
				break
			}
			b.WriteString(paint.In(r.colours[i], Cell(cell, columns[i])) + strings.Repeat(" ", gap))
		}
	}
	_, err := fmt.Fprint(w, b.String())
	return err
}

// columns returns the widths of the columns. A row has at most the given width if that is possible.
func (t *Table) columns(width int) []int {
	var columns []int
	for _, r := range t.rows {
		if r.isLine {
			continue
		}
		for i, cell := range r.cells {
			if i == len(columns) {
				columns = append(columns, 0)
			}
			columns[i] = max(columns[i], TextWidth(cell))
		}
	}
	total := gap * (len(columns) - 1)
	for _, c := range columns {
		total += c
	}
	for total > width {
		widest := 0
		for i, c := range columns {
			if c > columns[widest] {
				widest = i
			}
		}
		if columns[widest] <= narrowestColumn {
			break
		}
		columns[widest]--
		total--
	}
	return columns
}
