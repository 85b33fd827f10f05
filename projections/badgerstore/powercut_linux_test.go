package badgerstore

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// tablesFollow is a file system where a name is durable only when its directory
// was synced, except that a table's is when the table was: what Store needs.
func tablesFollow(name string) bool { return strings.HasSuffix(name, ".sst") }

// TestPowerCut runs a store on a disk that loses what was not synced, and cuts
// its power at any moment, recovery included, again and again. After each cut
// every partition must be the fold of a prefix of its log, with the checkpoint
// of that prefix, and no shorter than its last flush that returned. Each run
// draws other moments; -count has it run longer.
func TestPowerCut(t *testing.T) {
	// Some cuts until there are tables to compact; not too many, because what is
	// on the disk is folded again after each.
	cuts := 12
	if testing.Short() {
		cuts = 5
	}
	p := newPowerCuts(t, modeRun)
	for cut := range cuts {
		if err := p.round(); err != nil {
			t.Fatalf("after cut %d: %v", cut, err)
		}
	}
	if err := p.start(modeVerify); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d flushes returned, %d files were synced, %d pages and %d names lost; positions %v", p.acks, p.disk.syncs, p.disk.lostPages, p.disk.lostNames, p.acked)
	if p.acks == 0 || p.disk.lostPages == 0 {
		t.Error("nothing was at stake")
	}
}

// TestPowerCutIsNoticed breaks what TestPowerCut is about: it must see it.
func TestPowerCutIsNoticed(t *testing.T) {
	for _, mode := range []string{modeNoSync, modeNoDirSync} {
		t.Run(mode, func(t *testing.T) {
			p := newPowerCuts(t, mode)
			for cuts := range 60 {
				if err := p.round(); err != nil {
					t.Logf("after %d cuts: %v", cuts+1, err)
					return
				}
			}
			t.Error("60 power cuts went unnoticed")
		})
	}
}

type powerCuts struct {
	t    *testing.T
	mode string
	src  *rand.Rand
	disk *lossyDisk
	// acked is the positions of the last flushes that returned.
	acked [workloadPartition]int64
	acks  int
}

func newPowerCuts(t *testing.T, mode string) *powerCuts {
	t.Helper()
	if err := canMount(t); err != nil {
		t.Skipf("requires fuse: run as root with /dev/fuse present (in a container: --device /dev/fuse --cap-add SYS_ADMIN): %v", err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &powerCuts{t: t, mode: mode, src: rand.New(rand.NewPCG(seed, 0)), disk: newLossyDisk(tablesFollow)}
}

func canMount(t *testing.T) error {
	m, err := mount(t, newLossyDisk(tablesFollow))
	if err != nil {
		return err
	}
	return m.Unmount()
}

type mounted struct {
	*fuse.Server
	dir string
}

func mount(t *testing.T, d *lossyDisk) (mounted, error) {
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return mounted{}, err
	}
	s, err := fs.Mount(dir, &lossyRoot{disk: d}, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMountStrict: true, FsName: "lossy", Name: "lossy", DisableXAttrs: true, MaxWrite: 1 << 20,
	}})
	return mounted{s, dir}, err
}

// round runs the workload until power fails, and says what it found wrong at its
// start.
func (p *powerCuts) round() error {
	// Opening takes some dozens of writes, filling a memtable some thousand.
	p.disk.cutAfter(p.src.IntN([]int{30, 300, 2000}[p.src.IntN(3)]))
	err := p.start(p.mode)
	p.disk = p.disk.reboot(p.src)
	return err
}

// start runs the workload until it ends or power fails.
func (p *powerCuts) start(mode string) (err error) {
	m, err := mount(p.t, p.disk)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() {
		if unmountErr := m.Unmount(); unmountErr != nil {
			p.t.Fatal(unmountErr)
		}
	}()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), workloadDir+"="+m.dir, workloadMode+"="+mode)
	var stderr strings.Builder
	child.Stderr = &stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan struct{})
	killed := make(chan struct{})
	go func() { // what the process has in memory is lost with the power
		defer close(killed)
		select {
		case <-p.disk.off:
			_ = child.Process.Kill() // it may have died of it
		case <-ended:
		}
	}()
	err = p.listen(bufio.NewScanner(stdout))
	_ = child.Wait() // it was killed, or has said what was wrong
	close(ended)
	<-killed
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, stderr.String())
	}
	return err
}

// listen returns what the workload says is wrong, and what it restored that is
// too short, but not what it complains about without power.
func (p *powerCuts) listen(lines *bufio.Scanner) (err error) {
	done := false
	for lines.Scan() {
		var number int
		var position int64
		switch line := lines.Text(); {
		case line == "done":
			done = true
		case matches(line, "ack %d %d", &number, &position):
			p.acked[number] = position
			p.acks++
		case matches(line, "at %d %d", &number, &position):
			if position < p.acked[number] {
				err = errors.Join(err, fmt.Errorf("partition %d is restored at %d, and a flush at %d had returned", number, position, p.acked[number]))
			}
		case !p.disk.isCut():
			err = errors.Join(err, errors.New(line))
		}
	}
	if err == nil && !done && !p.disk.isCut() {
		err = errors.New("the workload died")
	}
	return err
}

func matches(line, format string, into ...any) bool {
	n, err := fmt.Sscanf(line, format, into...)
	return err == nil && n == len(into)
}
