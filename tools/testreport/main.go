// Command testreport reads what `go test -json` wrote and says what it came to.
//
//	testreport [-require WORD,...] FILE...
//
// It prints the output of each failed test, then the reason of each skip, and on
// its last line, alone, the totals: "N passed, N failed, N skipped". A skip
// whose message has the form "requires WORD: ..." is a failure if WORD is
// required. It exits with 1 if anything failed, or if no test ran.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	require := flag.String("require", "", "comma-separated `words`: a skip for want of one of these is a failure")
	flag.Parse()
	if err := run(os.Stdout, *require, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
}

var errFailed = errors.New("not everything passed")

func run(w io.Writer, require string, files []string) error {
	var r report
	for word := range strings.SplitSeq(require, ",") {
		if word = strings.TrimSpace(word); word != "" {
			r.required = append(r.required, word)
		}
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = errors.Join(r.read(f), f.Close())
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	r.write(w)
	if r.failed > 0 || r.passed == 0 {
		return errFailed
	}
	return nil
}

// event is one line of test2json's output; see go doc test2json.
type event struct {
	Action, Package, ImportPath, Test, Output string
}

// report counts tests, subtests included. A package that fails without a failed
// test (it does not build, it panics, its TestMain finds a leak) counts as one.
type report struct {
	required                []string
	passed, failed, skipped int
	failures, skips         []string
}

// read adds the events of one run.
func (r *report) read(src io.Reader) error {
	output := make(map[string][]string) // by package and test
	failedIn := make(map[string]bool)   // packages with a failed test
	lines := bufio.NewScanner(src)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if !strings.HasPrefix(lines.Text(), "{") || json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // what make and go print beside the events
		}
		name := strings.TrimSpace(e.Package + e.ImportPath + " " + e.Test)
		switch e.Action {
		case "output", "build-output":
			output[name] = append(output[name], e.Output)
			continue
		case "build-fail":
			r.fail(name, output[name])
		case "fail":
			if e.Test != "" {
				failedIn[e.Package] = true
				r.fail(name, output[name])
			} else if !failedIn[e.Package] {
				r.fail(name, output[name])
			}
		case "pass":
			if e.Test != "" {
				r.passed++
			}
		case "skip":
			if e.Test != "" {
				r.skip(name, output[name])
			}
		}
		delete(output, name)
	}
	return lines.Err()
}

func (r *report) fail(name string, output []string) {
	r.failed++
	r.failures = append(r.failures, "FAILED "+name+"\n"+strings.Join(output, ""))
}

var requires = regexp.MustCompile(`requires (\w+)`)

func (r *report) skip(name string, output []string) {
	var reason string
	for _, line := range output {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			reason = strings.TrimSpace(reason + " " + line)
		}
	}
	for _, match := range requires.FindAllStringSubmatch(reason, -1) {
		if slices.Contains(r.required, match[1]) {
			r.fail(name+" was skipped, though "+match[1]+" must not be missing here", output)
			return
		}
	}
	r.skipped++
	r.skips = append(r.skips, "skipped "+name+": "+reason)
}

func (r *report) write(w io.Writer) {
	for _, text := range slices.Concat(r.failures, r.skips) {
		fmt.Fprintln(w, strings.TrimRight(text, "\n"))
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
}
