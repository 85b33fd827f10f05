package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/seenby/seenby/cmd/seenby/cli"
)

// commandLine describes every subcommand and flag.
func commandLine() ([]byte, error) {
	app, err := cli.Model()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("# The command line\n\n")
	b.WriteString("Made by `make docs` of what `seenby --help` says; not edited by hand.\n\n")
	b.WriteString("Every flag is also an environment variable; the flag wins. Lists are separated by commas. Secrets come from files.\n" +
		"Exit codes: 0 done, 1 failed, 2 a flag, argument or variable is wrong, and nothing was started.\n")
	b.WriteString("\n## Flags of every command\n\n")
	flagTable(&b, app.Flags)
	for _, command := range app.Leaves(true) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", command.FullPath(), command.Help)
		if command.Detail != "" {
			fmt.Fprintf(&b, "\n%s\n", command.Detail)
		}
		if len(command.Positional) > 0 {
			b.WriteString("\n| argument | meaning |\n| --- | --- |\n")
			for _, p := range command.Positional {
				fmt.Fprintf(&b, "| `%s` | %s |\n", p.Summary(), cell(p.Help))
			}
		}
		var flags []*kong.Flag
		for node := command; node != nil && node.Type != kong.ApplicationNode; node = node.Parent {
			flags = append(node.Flags, flags...)
		}
		if len(flags) > 0 {
			b.WriteString("\n")
			flagTable(&b, flags)
		}
	}
	return b.Bytes(), nil
}

func flagTable(b *bytes.Buffer, flags []*kong.Flag) {
	b.WriteString("| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		variable, preset := "", ""
		if len(f.Envs) > 0 {
			variable = "`" + strings.Join(f.Envs, "`, `") + "`"
		}
		switch {
		case f.Required:
			preset = "required"
		case f.HasDefault:
			preset = "`" + f.Default + "`"
		}
		fmt.Fprintf(b, "| `--%s` | %s | %s | %s |\n", f.Name, variable, preset, cell(f.Help))
	}
}

// cell escapes text for a cell of a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}
