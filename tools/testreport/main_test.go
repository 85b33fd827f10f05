package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const (
		pass   = `{"Action":"pass","Package":"p","Test":"TestA"}`
		fail   = `{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:1: no\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestB"}`
		whole  = `{"Action":"fail","Package":"p"}`
		leak   = `{"Action":"output","Package":"q","Output":"leaked\n"}` + "\n" + `{"Action":"fail","Package":"q"}`
		build  = `{"Action":"build-output","ImportPath":"r","Output":"no such thing\n"}` + "\n" + `{"Action":"build-fail","ImportPath":"r"}`
		kafka  = `{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:1: requires kafka: set it\n"}` + "\n" + `{"Action":"skip","Package":"p","Test":"TestC"}`
		noTest = `{"Action":"skip","Package":"empty"}`
	)
	for _, c := range []struct {
		name, require string
		lines         []string
		last          string
		says          string
		fails         bool
	}{
		{name: "passes", lines: []string{"make: noise", pass, `{"Action":"pass","Package":"p"}`}, last: "1 passed, 0 failed, 0 skipped"},
		{name: "a failed test counts once", lines: []string{pass, fail, whole}, last: "1 passed, 1 failed, 0 skipped", says: "b_test.go:1: no", fails: true},
		{name: "a package fails without a test", lines: []string{pass, leak}, last: "1 passed, 1 failed, 0 skipped", says: "leaked", fails: true},
		{name: "a package does not build", lines: []string{pass, build}, last: "1 passed, 1 failed, 0 skipped", says: "no such thing", fails: true},
		{name: "a skip that is allowed", require: "python", lines: []string{pass, kafka}, last: "1 passed, 0 failed, 1 skipped", says: "skipped p TestC: c_test.go:1: requires kafka: set it"},
		{name: "a skip that is not", require: "python, kafka", lines: []string{pass, kafka}, last: "1 passed, 1 failed, 0 skipped", says: "must not be missing", fails: true},
		{name: "a package without tests is no skip", lines: []string{pass, noTest}, last: "1 passed, 0 failed, 0 skipped"},
		{name: "nothing ran", lines: []string{noTest}, last: "0 passed, 0 failed, 0 skipped", fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "test.json")
			if err := os.WriteFile(file, []byte(strings.Join(c.lines, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			err := run(&out, c.require, []string{file})
			if errors.Is(err, errFailed) != c.fails || err != nil && !c.fails {
				t.Errorf("error %v", err)
			}
			if !strings.HasSuffix("\n"+out.String(), "\n"+c.last+"\n") || !strings.Contains(out.String(), c.says) {
				t.Errorf("wrote %q", out.String())
			}
		})
	}
}
