package caller

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// A fakeHost has addresses that change.
type fakeHost struct {
	addresses []string
	err       error
	asked     int
}

func (f *fakeHost) list() ([]net.Addr, error) {
	f.asked++
	var list []net.Addr
	for _, address := range f.addresses {
		list = append(list, &net.IPNet{IP: net.ParseIP(address)})
	}
	return list, f.err
}

func wantLocal(t *testing.T, h *hostAddresses, address string, want bool) {
	t.Helper()
	if got, err := h.contains(netip.MustParseAddr(address)); got != want || err != nil {
		t.Errorf("%s is this host's: %t, %v; want %t", address, got, err, want)
	}
}

func TestAddressesOfThisHostAreLocal(t *testing.T) {
	var h hostAddresses
	for _, address := range []string{"127.0.0.1", "127.3.4.5", "::1"} {
		wantLocal(t, &h, address, true)
	}
	for _, address := range []string{"203.0.113.77", "2001:db8::77"} {
		wantLocal(t, &h, address, false)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range own {
		wantLocal(t, &h, network.(*net.IPNet).IP.String(), true)
	}
}

func TestAddressesThatComeAndGoAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{addresses: []string{"192.0.2.1", "fe80::1"}}
		h := &hostAddresses{list: host.list}
		wantLocal(t, h, "192.0.2.1", true)
		wantLocal(t, h, "fe80::1%eth0", true)
		wantLocal(t, h, "192.0.2.2", false)
		host.addresses = []string{"192.0.2.2"}
		time.Sleep(absenceFor)
		wantLocal(t, h, "192.0.2.2", true)
		time.Sleep(presenceFor)
		wantLocal(t, h, "192.0.2.1", false)
	})
}

func TestStrangersMakeUsAskForAddressesOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{addresses: []string{"192.0.2.1"}}
		h := &hostAddresses{list: host.list}
		for range 100 { // ten seconds
			wantLocal(t, h, "198.51.100.1", false)
			wantLocal(t, h, "192.0.2.1", true)
			time.Sleep(100 * time.Millisecond)
		}
		if host.asked != 10 {
			t.Errorf("asked %d times, want 10", host.asked)
		}
	})
}

func TestKernelThatListsNoAddressesLeavesThoseKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{addresses: []string{"192.0.2.1"}}
		h := &hostAddresses{list: host.list}
		wantLocal(t, h, "192.0.2.1", true)
		time.Sleep(presenceFor)
		host.err = errors.New("out of memory")
		if got, err := h.contains(netip.MustParseAddr("192.0.2.1")); !got || !errors.Is(err, host.err) {
			t.Errorf("got %t, %v", got, err)
		}
	})
}
