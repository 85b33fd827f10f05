package badgerstore

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// lossyDisk is a directory of files that loses what was not synced when its
// power fails. What it keeps then, it decides page by page:
//
//   - Of a file, what it had when it was last synced; each page that was written
//     later, and a later size, may have made it or not.
//   - Of the directory, what it had when it was last synced; of the later
//     creations, removals and renames some first ones may have made it, as with a
//     journal. A file's name is not durable because the file was synced, unless
//     followName says so.
//
// Power fails at a write of any kind, chosen by cutAfter; from then on everything
// is an input/output error.
type lossyDisk struct {
	followName func(name string) bool

	mu      sync.Mutex
	names   map[string]*lossyFile
	durable map[string]*lossyFile
	journal []change // since durable
	lastIno uint64

	left  int // writes until power fails
	isOff bool
	off   chan struct{}

	syncs, lostPages, lostNames int
}

// change is an entry of the journal: name is file now, and was is gone unless it
// is "".
type change struct {
	name string
	file *lossyFile // nil: removed
	was  string
}

const lossyPage = 4096

type lossyFile struct {
	ino           uint64
	data, durable []byte
	dirty         map[int]struct{} // pages
	mode          uint32
}

func newLossyDisk(followName func(string) bool) *lossyDisk {
	return &lossyDisk{
		followName: followName,
		names:      make(map[string]*lossyFile),
		durable:    make(map[string]*lossyFile),
		lastIno:    1,
		left:       1 << 60,
		off:        make(chan struct{}),
	}
}

// cutAfter has power fail n writes from now.
func (d *lossyDisk) cutAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = n
}

// isCut says whether power has failed.
func (d *lossyDisk) isCut() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.isOff
}

// write begins any change of the disk: it returns false when power has failed.
// The caller holds mu.
func (d *lossyDisk) write() bool {
	if !d.isOff {
		if d.left--; d.left < 0 {
			d.isOff = true
			close(d.off)
		}
	}
	return !d.isOff
}

// reboot returns the disk as it is when power comes back.
func (d *lossyDisk) reboot(src *rand.Rand) *lossyDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := newLossyDisk(d.followName)
	next.lastIno = d.lastIno
	next.lostPages, next.lostNames, next.syncs = d.lostPages, d.lostNames, d.syncs
	made := src.IntN(len(d.journal) + 1)
	next.lostNames += len(d.journal) - made
	for _, c := range d.journal[:made] {
		c.apply(d.durable)
	}
	for name, file := range d.durable {
		survivor := &lossyFile{ino: file.ino, mode: file.mode, durable: file.survives(src, &next.lostPages), dirty: make(map[int]struct{})}
		survivor.data = slices.Clone(survivor.durable)
		next.names[name] = survivor
	}
	next.durable = maps.Clone(next.names)
	return next
}

func (f *lossyFile) survives(src *rand.Rand, lost *int) []byte {
	size := len(f.durable)
	if src.IntN(2) == 0 {
		size = len(f.data)
	}
	content := make([]byte, size)
	copy(content, f.durable)
	for page := range f.dirty {
		from := page * lossyPage
		if src.IntN(2) == 0 {
			*lost++
			continue
		}
		if from < len(f.data) && from < size {
			copy(content[from:min(size, from+lossyPage)], f.data[from:])
		}
	}
	return content
}

func (f *lossyFile) write(data []byte, off int) {
	f.resize(max(len(f.data), off+len(data)))
	copy(f.data[off:], data)
	for page := off / lossyPage; page*lossyPage < off+len(data); page++ {
		f.dirty[page] = struct{}{}
	}
}

// resize makes what is cut off dirty, so that it is cut off when synced, too.
func (f *lossyFile) resize(size int) {
	for page := size / lossyPage; size < len(f.data) && page*lossyPage < len(f.data); page++ {
		f.dirty[page] = struct{}{}
	}
	f.data = resized(f.data, size)
}

func resized(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size:size]
	}
	grown := make([]byte, size)
	copy(grown, b)
	return grown
}

func (f *lossyFile) sync() {
	f.durable = resized(f.durable, len(f.data))
	for page := range f.dirty {
		if from := page * lossyPage; from < len(f.data) {
			copy(f.durable[from:min(len(f.data), from+lossyPage)], f.data[from:])
		}
	}
	clear(f.dirty)
}

func (c change) apply(names map[string]*lossyFile) {
	if c.was != "" {
		delete(names, c.was)
	}
	if c.file == nil {
		delete(names, c.name)
	} else {
		names[c.name] = c.file
	}
}

// do makes a change of the directory that is not durable yet.
func (d *lossyDisk) do(c change) {
	c.apply(d.names)
	d.journal = append(d.journal, c)
}

func (d *lossyDisk) syncNames() {
	d.durable = maps.Clone(d.names)
	d.journal = nil
}

// syncFile makes a file durable.
func (d *lossyDisk) syncFile(f *lossyFile) {
	d.syncs++
	f.sync()
	for i, c := range d.journal {
		if c.file == f && d.followName(c.name) {
			c.apply(d.durable)
			d.journal = slices.Delete(d.journal, i, i+1)
			return
		}
	}
}

// lossyRoot is the directory for the kernel.
type lossyRoot struct {
	fs.Inode
	disk *lossyDisk
}

var (
	_ fs.NodeLookuper  = (*lossyRoot)(nil)
	_ fs.NodeCreater   = (*lossyRoot)(nil)
	_ fs.NodeUnlinker  = (*lossyRoot)(nil)
	_ fs.NodeRenamer   = (*lossyRoot)(nil)
	_ fs.NodeReaddirer = (*lossyRoot)(nil)
	_ fs.NodeFsyncer   = (*lossyRoot)(nil)
	_ fs.NodeStatfser  = (*lossyRoot)(nil)
)

func (r *lossyRoot) inode(ctx context.Context, f *lossyFile, out *fuse.EntryOut) *fs.Inode {
	f.attr(&out.Attr)
	return r.NewInode(ctx, &lossyNode{disk: r.disk, file: f}, fs.StableAttr{Mode: fuse.S_IFREG, Ino: f.ino})
}

func (f *lossyFile) attr(out *fuse.Attr) {
	out.Ino, out.Size, out.Mode, out.Nlink = f.ino, uint64(len(f.data)), fuse.S_IFREG|f.mode, 1
}

func (r *lossyRoot) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	f := r.disk.names[name]
	switch {
	case r.disk.isOff:
		return nil, syscall.EIO
	case f == nil:
		return nil, syscall.ENOENT
	}
	return r.inode(ctx, f, out), 0
}

func (r *lossyRoot) Create(ctx context.Context, name string, _ uint32, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if !r.disk.write() {
		return nil, nil, 0, syscall.EIO
	}
	r.disk.lastIno++
	f := &lossyFile{ino: r.disk.lastIno, mode: mode & 0o777, dirty: make(map[int]struct{})}
	r.disk.do(change{name: name, file: f})
	return r.inode(ctx, f, out), nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (r *lossyRoot) Unlink(_ context.Context, name string) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if !r.disk.write() {
		return syscall.EIO
	}
	r.disk.do(change{name: name})
	return 0
}

func (r *lossyRoot) Rename(_ context.Context, name string, _ fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if flags != 0 {
		return syscall.EINVAL
	}
	if !r.disk.write() {
		return syscall.EIO
	}
	r.disk.do(change{name: newName, file: r.disk.names[name], was: name})
	return 0
}

func (r *lossyRoot) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if r.disk.isOff {
		return nil, syscall.EIO
	}
	var all []fuse.DirEntry
	for name, f := range r.disk.names {
		all = append(all, fuse.DirEntry{Name: name, Ino: f.ino, Mode: fuse.S_IFREG})
	}
	return fs.NewListDirStream(all), 0
}

func (r *lossyRoot) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if !r.disk.write() {
		return syscall.EIO
	}
	r.disk.syncNames()
	return 0
}

func (r *lossyRoot) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.NameLen = lossyPage, lossyPage, 255
	out.Blocks, out.Bfree, out.Bavail = 1<<30, 1<<30, 1<<30
	return 0
}

// lossyNode is a file for the kernel.
type lossyNode struct {
	fs.Inode
	disk *lossyDisk
	file *lossyFile
}

var (
	_ fs.NodeOpener    = (*lossyNode)(nil)
	_ fs.NodeReader    = (*lossyNode)(nil)
	_ fs.NodeWriter    = (*lossyNode)(nil)
	_ fs.NodeFsyncer   = (*lossyNode)(nil)
	_ fs.NodeGetattrer = (*lossyNode)(nil)
	_ fs.NodeSetattrer = (*lossyNode)(nil)
)

func (n *lossyNode) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (n *lossyNode) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if n.disk.isOff {
		return nil, syscall.EIO
	}
	from := min(int(off), len(n.file.data))
	return fuse.ReadResultData(dest[:copy(dest, n.file.data[from:])]), 0
}

func (n *lossyNode) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if !n.disk.write() {
		return 0, syscall.EIO
	}
	n.file.write(data, int(off))
	return uint32(len(data)), 0
}

func (n *lossyNode) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if !n.disk.write() {
		return syscall.EIO
	}
	n.disk.syncFile(n.file)
	return 0
}

func (n *lossyNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.file.attr(&out.Attr)
	return 0
}

func (n *lossyNode) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if size, ok := in.GetSize(); ok {
		if !n.disk.write() {
			return syscall.EIO
		}
		n.file.resize(int(size))
	}
	n.file.attr(&out.Attr)
	return 0
}
