package status

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// A colour is an SGR parameter of ECMA-48; the empty one changes nothing.
type colour string

const (
	bold   colour = "1"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
)

var (
	stateColours  = map[State]colour{None: red, Fresh: green, Expiring: yellow, Expired: red}
	healthColours = map[Health]colour{OK: green, Failing: red}
)

func (t Table) paint(c colour, s string) string {
	if !t.Color || c == "" || s == "" {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// A grid aligns columns whose cells may be coloured, which text/tabwriter would
// count as text. A column in which no row says anything is left out.
type grid struct {
	header []string
	rows   [][]cell
}

type cell struct {
	text   string
	colour colour
}

func plain(s string) cell       { return cell{text: s} }
func count(n int64) cell        { return cell{text: strconv.FormatInt(n, 10)} }
func (g *grid) add(row ...cell) { g.rows = append(g.rows, row) }

// minLast is how much of the last column is shown however narrow the terminal.
const minLast = 20

func (g *grid) write(b *strings.Builder, t Table) {
	g.prepare()
	if len(g.header) == 0 {
		return
	}
	widths := make([]int, len(g.header))
	for i, title := range g.header {
		widths[i] = utf8.RuneCountInString(title)
		for _, row := range g.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
	}
	last := len(widths) - 1
	if t.Width > 0 {
		room := t.Width
		for _, w := range widths[:last] {
			room -= w + len(gap)
		}
		widths[last] = min(widths[last], max(room, minLast))
	}
	header := make([]cell, len(g.header))
	for i, title := range g.header {
		header[i] = cell{title, bold}
	}
	g.line(b, t, widths, header)
	for _, row := range g.rows {
		g.line(b, t, widths, row)
	}
}

const gap = "   "

func (g *grid) line(b *strings.Builder, t Table, widths []int, row []cell) {
	end := len(row) - 1
	for end > 0 && row[end].text == "" {
		end--
	}
	for i, c := range row[:end+1] {
		s := cut(c.text, widths[i])
		b.WriteString(t.paint(c.colour, s))
		if i < end {
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(s)))
			b.WriteString(gap)
		}
	}
	b.WriteByte('\n')
}

// prepare cleans all cells and drops the columns that are empty in all rows.
func (g *grid) prepare() {
	kept := 0
	for i, title := range g.header {
		used := false
		for _, row := range g.rows {
			row[i].text = clean(row[i].text)
			used = used || row[i].text != ""
		}
		if !used {
			continue
		}
		g.header[kept] = title
		for _, row := range g.rows {
			row[kept] = row[i]
		}
		kept++
	}
	g.header = g.header[:kept]
	for i := range g.rows {
		g.rows[i] = g.rows[i][:kept]
	}
}
