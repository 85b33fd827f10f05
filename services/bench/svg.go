package bench

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// plot is a picture of some lines. It is drawn here because it needs little, while
// the libraries that plot bring fonts, images and PDF along. Its colours are
// those that show on light and on dark ground.
type plot struct {
	title, x, y string
	// logX has equal factors of x equally far apart.
	logX  bool
	lines []line
}

type line struct {
	name   string
	points []point
	// dashed is for what seenby's lines are compared with.
	dashed bool
}

type point struct{ x, y float64 }

// The picture's measures, in pixels.
const (
	plotWidth, plotHeight                    = 720, 420
	plotLeft, plotRight, plotTop, plotBottom = 80, 20, 40, 70
	legendRow                                = 18
)

var (
	plotColours = []string{"#3b82c4", "#d9722e", "#3f9e5a", "#b0509e", "#a08a20", "#5f7f8f"}
	plotInk     = "#808080"
)

// svg draws the plot. Lines of one colour, whole and dashed, belong together: they
// follow each other in lines, the dashed one second.
func (p plot) svg() []byte {
	low, high, top := p.bounds()
	height := plotHeight + legendRow*((len(p.lines)+1)/2)
	at := func(q point) (x, y float64) {
		return plotLeft + (p.scale(q.x)-p.scale(low))/(p.scale(high)-p.scale(low))*(plotWidth-plotLeft-plotRight),
			plotHeight - plotBottom - q.y/top*(plotHeight-plotTop-plotBottom)
	}
	var b strings.Builder
	text := func(x, y float64, anchor, s string) {
		fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, escaped(s))
	}
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\" fill=\"%s\" role=\"img\">\n",
		plotWidth, height, plotInk)
	fmt.Fprintf(&b, "<title>%s</title>\n", escaped(p.title))
	text(plotLeft, 20, "start", p.title+": "+p.y)
	for _, tick := range linearTicks(top) {
		x, y := at(point{low, tick})
		fmt.Fprintf(&b, "<path d=\"M%.1f %.1fH%d\" stroke=\"%s\" stroke-opacity=\"0.3\"/>\n", x, y, plotWidth-plotRight, plotInk)
		text(x-6, y+4, "end", short(tick))
	}
	for _, tick := range p.xTicks(low, high) {
		x, y := at(point{tick, 0})
		text(x, y+18, "middle", short(tick))
	}
	text((plotLeft+plotWidth-plotRight)/2, plotHeight-plotBottom+40, "middle", p.x)
	for i, l := range p.lines {
		colour := plotColours[p.colour(i)%len(plotColours)]
		dot, dash := fmt.Sprintf("fill=\"%s\"", colour), ""
		if l.dashed {
			dot, dash = fmt.Sprintf("fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\"", colour), ` stroke-dasharray="5 4"`
		}
		var path []string
		for j, q := range l.points {
			x, y := at(q)
			path = append(path, fmt.Sprintf("%c%.1f %.1f", "ML"[min(j, 1)], x, y))
			fmt.Fprintf(&b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" %s><title>%s</title></circle>\n", x, y, dot,
				escaped(fmt.Sprintf("%s: %s at %s", l.name, short(q.y), short(q.x))))
		}
		style := fmt.Sprintf("fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s", colour, dash)
		fmt.Fprintf(&b, "<path d=\"%s\" %s/>\n", strings.Join(path, ""), style)
		x, y := float64(plotLeft+i%2*(plotWidth/2-20)), float64(plotHeight+legendRow*(i/2))
		fmt.Fprintf(&b, "<path d=\"M%.1f %.1fh24\" %s/>\n", x, y-4, style)
		text(x+32, y, "start", l.name)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// colour numbers the whole lines; a dashed one has that of the whole one before.
func (p plot) colour(i int) int {
	n := -1
	for j := range p.lines[:i+1] {
		if !p.lines[j].dashed || j == 0 {
			n++
		}
	}
	return n
}

func (p plot) scale(x float64) float64 {
	if p.logX {
		return math.Log10(x)
	}
	return x
}

// bounds are those of x, and the top of y, whose bottom is 0.
func (p plot) bounds() (low, high, top float64) {
	low = math.Inf(1)
	for _, l := range p.lines {
		for _, q := range l.points {
			low, high, top = min(low, q.x), max(high, q.x), max(top, q.y)
		}
	}
	if low >= high { // one x, or none: it stands in the middle
		return cmp.Or(high, 1) / 2, cmp.Or(high, 1) * 2, cmp.Or(top, 1) * 1.05
	}
	if p.logX {
		margin := math.Pow(high/low, 0.05)
		return low / margin, high * margin, cmp.Or(top, 1) * 1.05
	}
	margin := (high - low) * 0.05
	return low - margin, high + margin, cmp.Or(top, 1) * 1.05
}

// linearTicks are round numbers from 0 to a top.
func linearTicks(top float64) (ticks []float64) {
	step := math.Pow(10, math.Floor(math.Log10(top)))
	for _, finer := range []float64{2, 2.5, 2} {
		if top/step >= 4 {
			break
		}
		step /= finer
	}
	for tick := 0.0; tick <= top; tick += step {
		ticks = append(ticks, tick)
	}
	return ticks
}

// xTicks are those of the points, without those too near to the one before.
func (p plot) xTicks(low, high float64) (ticks []float64) {
	var all []float64
	for _, l := range p.lines {
		for _, q := range l.points {
			all = append(all, q.x)
		}
	}
	slices.Sort(all)
	for _, x := range all {
		if n := len(ticks); n == 0 || (p.scale(x)-p.scale(ticks[n-1]))/(p.scale(high)-p.scale(low)) > 0.06 {
			ticks = append(ticks, x)
		}
	}
	return ticks
}

// short writes 2500000 as 2.5M.
func short(n float64) string {
	for _, unit := range []struct {
		name string
		is   float64
	}{{"G", 1e9}, {"M", 1e6}, {"k", 1e3}} {
		if n >= unit.is {
			return strconv.FormatFloat(math.Round(n/unit.is*100)/100, 'f', -1, 64) + unit.name
		}
	}
	return strconv.FormatFloat(math.Round(n*100)/100, 'f', -1, 64)
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a builder takes everything
	return b.String()
}
