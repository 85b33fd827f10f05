// Command licences fails if a module that the binary links has a licence that is
// not on the list of those that may be passed on with it.
//
//	licences -module DIR
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// permitted are the licences, by SPDX's identifiers, that ask for no more than
// their text and a notice. MPL-2.0 asks for the source of its own files alone,
// which we do not change.
var permitted = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "Unlicense"}

// enough is how much of a licence's file, in percent, must be text of licences.
const enough = 75

func main() {
	dir := flag.String("module", ".", "the `directory` of the module")
	flag.Parse()
	if err := run(os.Stdout, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, dir string) error {
	modules, err := linked(dir)
	if err != nil {
		return err
	}
	if len(modules) == 0 {
		return errors.New("the module's commands link no other module: was this the right directory?")
	}
	var bad []error
	for _, m := range modules {
		ids, err := licencesOf(m.Dir)
		if err == nil {
			err = check(ids)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", m.Path, err))
			continue
		}
		fmt.Fprintf(w, "%s %s\n", m.Path, strings.Join(ids, ", "))
	}
	return errors.Join(bad...)
}

type module struct {
	Path, Dir string
	Main      bool
}

// linked returns the modules of the packages that the module's commands link.
func linked(dir string) ([]module, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=Module", "./cmd/...")
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var modules []module
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct{ Module *module }
		err := d.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return modules, nil
		}
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if m := pkg.Module; m != nil && !m.Main && !slices.Contains(modules, *m) {
			modules = append(modules, *m)
		}
	}
}

// licencesOf returns the licences in a module's directory.
func licencesOf(dir string) ([]string, error) {
	var ids []string
	for _, pattern := range []string{"LICEN[CS]E*", "COPYING*", "[Ll]icen[cs]e*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			found := licensecheck.Scan(text)
			if found.Percent < enough {
				return nil, fmt.Errorf("%s: not recognised as a licence (%.0f %%)", name, found.Percent)
			}
			for _, m := range found.Match {
				ids = append(ids, m.ID)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

func check(ids []string) error {
	if len(ids) == 0 {
		return errors.New("no licence found")
	}
	for _, id := range ids {
		if !slices.Contains(permitted, id) {
			return fmt.Errorf("%s is not on the list: %s", id, strings.Join(permitted, ", "))
		}
	}
	return nil
}
