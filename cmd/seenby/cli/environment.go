package cli

import (
	"slices"

	"github.com/alecthomas/kong"
)

// flagsWin takes back what a variable has set where the command line has another
// flag that excludes it: in a projector's container, whose variables name its
// data, one can still ask for another place by flag.
func flagsWin(c *kong.Context) error {
	given := make(map[*kong.Flag]bool)
	var groups []string
	for _, p := range c.Path {
		if p.Flag != nil && !p.Resolved {
			given[p.Flag] = true
			groups = append(groups, p.Flag.Xor...)
		}
	}
	excluded := func(group string) bool { return slices.Contains(groups, group) }
	for _, p := range c.Path {
		for _, flag := range p.Flags {
			if !given[flag] && slices.ContainsFunc(flag.Xor, excluded) {
				flag.Target.SetZero()
				flag.Set = false
			}
		}
	}
	return nil
}
