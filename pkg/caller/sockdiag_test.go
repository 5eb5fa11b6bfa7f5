package caller

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// anAnswer is what the kernel says of a socket in the words of sock_diag.
type anAnswer struct {
	kind       uint16
	sequence   uint32
	family     byte
	state      byte
	src, dst   netip.AddrPort
	uid, inode uint32
	attributes []byte
}

func (a anAnswer) bytes() []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(headerLen+answerLen+len(a.attributes)))
	b = binary.NativeEndian.AppendUint16(b, a.kind)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint32(b, a.sequence)
	b = binary.NativeEndian.AppendUint32(b, 4711)
	b = append(b, a.family, a.state, 0, 0)
	b = binary.BigEndian.AppendUint16(b, a.src.Port())
	b = binary.BigEndian.AppendUint16(b, a.dst.Port())
	b = appendAddr(b, a.src.Addr())
	b = appendAddr(b, a.dst.Addr())
	b = append(b, make([]byte, 12+12)...)
	b = binary.NativeEndian.AppendUint32(b, a.uid)
	b = binary.NativeEndian.AppendUint32(b, a.inode)
	return append(b, a.attributes...)
}

func attribute(kind uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(attrLen+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(b)&3)...)
}

func cgroupAttribute(id uint64) []byte {
	return attribute(diagCgroupID, binary.NativeEndian.AppendUint64(nil, id)...)
}

// anError is a struct nlmsgerr.
func anError(sequence uint32, errno unix.Errno) []byte {
	b := binary.NativeEndian.AppendUint32(nil, errnoLen+headerLen)
	b = binary.NativeEndian.AppendUint16(b, unix.NLMSG_ERROR)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint32(b, sequence)
	b = binary.NativeEndian.AppendUint32(b, 4711)
	b = binary.NativeEndian.AppendUint32(b, uint32(-int32(errno)))
	return append(b, make([]byte, headerLen)...)
}

var (
	peer4 = netip.MustParseAddrPort("192.0.2.10:40000")
	dest4 = netip.MustParseAddrPort("169.254.169.254:80")
	peer6 = netip.MustParseAddrPort("[2001:db8::10]:40000")
	dest6 = netip.MustParseAddrPort("[fd00:ec2::254]:80")
)

func mapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
}

func plainAnswer() anAnswer {
	return anAnswer{kind: sockDiagByFamily, sequence: 7, family: unix.AF_INET, state: 1, src: peer4, dst: dest4, uid: 1000, inode: 99, attributes: cgroupAttribute(1234)}
}

func TestAnswersAreReadAsTheKernelMeansThem(t *testing.T) {
	v4 := socket{local: peer4, remote: dest4, state: 1, uid: 1000, inode: 99, cgroup: 1234}
	v6 := v4
	v6.local, v6.remote = peer6, dest6
	oldKernel := v4
	oldKernel.cgroup = 0
	for _, c := range []struct {
		name   string
		change func(*anAnswer)
		want   socket
		err    error
	}{
		{"IPv4", func(*anAnswer) {}, v4, nil},
		{"IPv6", func(a *anAnswer) { a.family, a.src, a.dst = unix.AF_INET6, peer6, dest6 }, v6, nil},
		{"IPv4 on an IPv6 socket", func(a *anAnswer) { a.family, a.src, a.dst = unix.AF_INET6, mapped(peer4), mapped(dest4) }, v4, nil},
		{"among other attributes", func(a *anAnswer) {
			a.attributes = append(append(attribute(8, 3), attribute(200, 1, 2, 3, 4, 5)...), a.attributes...)
		}, v4, nil},
		{"no cgroup", func(a *anAnswer) { a.attributes = attribute(8, 3) }, oldKernel, nil},
		{"no attributes", func(a *anAnswer) { a.attributes = nil }, oldKernel, nil},
		{"unpadded end", func(a *anAnswer) { a.attributes = append(a.attributes, attribute(8, 3)[:5]...) }, v4, nil},
		{"short cgroup", func(a *anAnswer) { a.attributes = attribute(diagCgroupID, 1, 2, 3, 4) }, socket{}, errMalformed},
		{"long attribute", func(a *anAnswer) { a.attributes[0] = 13 }, socket{}, errMalformed},
		{"empty attribute", func(a *anAnswer) { a.attributes = make([]byte, 8) }, socket{}, errMalformed},
		{"other family", func(a *anAnswer) { a.family = unix.AF_UNIX }, socket{}, errMalformed},
		{"other kind", func(a *anAnswer) { a.kind = unix.NLMSG_DONE }, socket{}, errMalformed},
		{"other request", func(a *anAnswer) { a.sequence = 6 }, socket{}, errOtherRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer := plainAnswer()
			c.change(&answer)
			got, err := parseAnswer(answer.bytes(), 7)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, c.want, c.err)
			}
		})
	}
}

func TestErrorsOfTheKernelAreToldApart(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"no such socket", anError(7, unix.ENOENT), errNoSocket},
		{"other error", anError(7, unix.EPERM), unix.EPERM},
		{"other request", anError(6, unix.ENOENT), errOtherRequest},
		{"nothing", nil, errMalformed},
		{"short header", anError(7, unix.ENOENT)[:headerLen-1], errMalformed},
		{"cut off", plainAnswer().bytes()[:headerLen+answerLen-1], errMalformed},
		{"length of zero", make([]byte, 100), errMalformed},
	} {
		if _, err := parseAnswer(c.bytes, 7); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestOnlyTheClientsOwnOpenSocketCounts(t *testing.T) {
	client := socket{local: peer4, remote: dest4, state: 1, uid: 1000, inode: 99}
	for _, c := range []struct {
		name   string
		change func(*socket)
		want   bool
	}{
		{"established", func(*socket) {}, true},
		{"half-closed by the client", func(s *socket) { s.state = 5 }, true},
		{"half-closed by us", func(s *socket) { s.state = 8 }, true},
		{"still connecting", func(s *socket) { s.state = 2 }, false},
		{"time-wait", func(s *socket) { s.state = 6 }, false},
		{"listener", func(s *socket) { s.state, s.remote = 10, netip.MustParseAddrPort("0.0.0.0:0") }, false},
		{"listener that claims to be connected", func(s *socket) { s.state = 10 }, false},
		{"no state of TCP", func(s *socket) { s.state = 200 }, false},
		{"other port", func(s *socket) { s.local = netip.AddrPortFrom(peer4.Addr(), 40001) }, false},
		{"other destination", func(s *socket) { s.remote = netip.MustParseAddrPort("127.0.0.1:25772") }, false},
	} {
		s := client
		c.change(&s)
		if got := s.connects(peer4, dest4); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	answer := plainAnswer()
	f.Add(answer.bytes(), uint32(7))
	answer.family, answer.src, answer.dst = unix.AF_INET6, mapped(peer4), mapped(dest4)
	f.Add(answer.bytes(), uint32(7))
	answer.attributes = attribute(8, 3)
	f.Add(answer.bytes(), uint32(7))
	f.Add(anError(7, unix.ENOENT), uint32(7))
	f.Fuzz(func(t *testing.T, b []byte, sequence uint32) {
		found, err := parseAnswer(b, sequence)
		if err != nil {
			if found != (socket{}) {
				t.Errorf("an error and %+v", found)
			}
			return
		}
		if len(b) < headerLen+answerLen || binary.NativeEndian.Uint32(b[8:]) != sequence {
			t.Errorf("%x became %+v", b, found)
		}
		if !found.local.IsValid() || found.local.Addr().Is4In6() || found.remote.Addr().Is4In6() {
			t.Errorf("addresses %s and %s", found.local, found.remote)
		}
	})
}
