package handover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// prefix is how the names of stored files begin, FDNAME= of sd_notify(3).
const prefix = "purser-stock-"

// names are used in turn: the new file is there before the old one goes.
var names = [2]string{prefix + "a", prefix + "b"}

// A Depot is the file-descriptor store of our service. A nil Depot stores nothing.
// Its methods are safe for concurrent use.
type Depot struct {
	socket  string
	certain bool

	mu     sync.Mutex // guards all below and keeps stores in order
	next   int        // which of names is free
	serial uint64     // of what was stored last
}

// Open takes out of the files that systemd passed those that a Depot stored, closes
// them, and returns the latest good State among them, nil if there is none. The error
// says why one could not be used; that is no reason not to start. The rest of the files
// is returned as it was.
func Open(passed []*os.File) (d *Depot, s *State, rest []*os.File, err error) {
	latest := ""
	for _, file := range passed {
		if !strings.HasPrefix(file.Name(), prefix) {
			rest = append(rest, file)
			continue
		}
		found, failed := read(file)
		_ = file.Close()
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("what the former process left (%s) cannot be used: %w", file.Name(), failed))
		} else if s == nil || found.Serial > s.Serial {
			s, latest = found, file.Name()
		}
	}
	if socket := os.Getenv("NOTIFY_SOCKET"); socket != "" {
		room, _ := strconv.Atoi(os.Getenv("FDSTORE")) // of systemd 254 and later
		d = &Depot{socket: socket, certain: room > 0 || len(rest) < len(passed)}
		if latest == names[0] {
			d.next = 1
		}
		if s != nil {
			d.serial = s.Serial
		}
	}
	return d, s, rest, err
}

// Certain reports whether it is known that systemd keeps what is stored: it says so, or
// has kept something. A service without FileDescriptorStoreMax= has no store, and is not
// told when it uses it all the same.
func (d *Depot) Certain() bool { return d != nil && d.certain }

// seals make a file one that nobody can change any more.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// read reads a stored file. One without its seals is not ours.
func read(file *os.File) (*State, error) {
	set, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || set&seals != seals {
		return nil, errors.New("it is not sealed")
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxState {
		return nil, fmt.Errorf("it has %d bytes, more than Purser writes", info.Size())
	}
	return decode(file, info.Size())
}

// Store leaves a state to the next process, in place of the one before, and gives it its
// serial number.
func (d *Depot) Store(s *State) error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serial++
	s.Serial = d.serial
	file, err := seal(s)
	if err != nil {
		return fmt.Errorf("a memory file: %w", err)
	}
	defer file.Close()
	// FDPOLL=0: systemd would drop a file that seems to be hung up.
	if err := d.notify("FDSTORE=1\nFDPOLL=0\nFDNAME="+names[d.next], file); err != nil {
		return err
	}
	d.next = 1 - d.next
	return d.notify("FDSTOREREMOVE=1\nFDNAME="+names[d.next], nil)
}

// Barrier returns when systemd has seen everything before it, or after timeout. Without
// it, what the last messages carried could be lost with the process that sent them.
func (d *Depot) Barrier(timeout time.Duration) error {
	if d == nil {
		return nil
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ours.Close()
	err = d.notify("BARRIER=1", theirs)
	_ = theirs.Close()
	if err != nil {
		return err
	}
	if err := ours.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("systemd did not answer: %w", err)
	}
	return nil
}

// sendTime is how long systemd may be too busy to take a message.
const sendTime = time.Second

// notify sends one message, with a file if there is one.
func (d *Depot) notify(message string, file *os.File) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(int64(sendTime))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		return err
	}
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(file.Fd()))
	}
	if err := unix.Sendmsg(fd, []byte(message), rights, &unix.SockaddrUnix{Name: d.socket}, 0); err != nil {
		return fmt.Errorf("systemd cannot be notified at %s: %w", d.socket, err)
	}
	return nil
}

// seal makes a memory file of a state that is never executable and that nobody can
// change.
func seal(s *State) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("purser-stock", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("purser-stock", flags)
	}
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "purser-stock")
	if err = encode(s, file); err == nil {
		_, err = unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
