package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLicences(t *testing.T) {
	ours, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, text, want string }{
		{"permitted", "LICENSE", string(ours), ""},
		{"another spelling", "LICENCE.md", string(ours), ""},
		{"one beside another", "COPYING", string(ours) + "\n\nYou may do with this what we say you may." + strings.Repeat(" No more.", 2000), "not recognised"},
		{"no licence", "LICENSE", "You may do with this what we say you may.", "not recognised"},
		{"none", "README", "hello", "no licence found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			ids, err := licencesOf(dir)
			if err == nil {
				err = check(ids)
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, %v", ids, err)
			}
		})
	}
}

func TestPermitted(t *testing.T) {
	if err := check([]string{"MIT", "BSD-3-Clause"}); err != nil {
		t.Error(err)
	}
	if err := check([]string{"MIT", "AGPL-3.0"}); err == nil || !strings.Contains(err.Error(), "AGPL-3.0") {
		t.Error(err)
	}
}
