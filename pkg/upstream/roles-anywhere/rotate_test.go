package rolesanywhere

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
)

// U13, by rename, in place and by symlink.
func TestARotatedPairIsUsedAtTheNextRequest(t *testing.T) {
	p := newPlace(t, mock.RolesAnywhereOptions{}, nil)
	p.expect("web01")
	p.rotate("renamed")
	p.expect("renamed")
	certificate, key, err := p.authority.Issue(mock.CertificateFor("in place"))
	must(t, err)
	must(t, os.WriteFile(p.options.Certificate, certificate, 0o600))
	must(t, os.WriteFile(p.options.Key, key, 0o600))
	p.expect("in place")
	if got := strings.Count(p.log.String(), "certificate files changed and are in use"); got != 2 {
		t.Errorf("two changes are logged %d times: %s", got, p.log)
	}
}

func TestARotationBySymlinkIsSeen(t *testing.T) {
	dir := t.TempDir()
	link := func(name string) {
		must(t, os.Symlink(name, filepath.Join(dir, "new")))
		must(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "current")))
	}
	p := newPlace(t, mock.RolesAnywhereOptions{}, func(p *place) {
		for _, name := range []string{"first", "second"} {
			certificate, key, err := p.authority.Issue(mock.CertificateFor(name))
			must(t, err)
			must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
			testkit.Replace(t, filepath.Join(dir, name, "both.pem"), append(certificate, key...))
		}
		link("first")
		p.options.Certificate = filepath.Join(dir, "current", "both.pem")
		p.options.Key = p.options.Certificate
	})
	p.expect("first")
	link("second")
	p.expect("second")
}

// TestABrokenRotationKeepsTheFormerPair: it is logged once, said by Check, and over with
// the next whole pair.
func TestABrokenRotationKeepsTheFormerPair(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(p *place)
		want string
	}{
		"the certificate alone": {func(p *place) {
			certificate, _, err := p.authority.Issue(mock.CertificateFor("x"))
			must(p.t, err)
			testkit.Replace(p.t, p.options.Certificate, certificate)
		}, "does not belong to the certificate"},
		"the key alone": {func(p *place) {
			_, key, err := p.authority.Issue(mock.CertificateFor("x"))
			must(p.t, err)
			testkit.Replace(p.t, p.options.Key, key)
		}, "does not belong to the certificate"},
		"an empty key":       {func(p *place) { testkit.Replace(p.t, p.options.Key, "") }, "there is no PEM private key in it"},
		"no key":             {func(p *place) { must(p.t, os.Remove(p.options.Key)) }, "host.key"},
		"rubbish":            {func(p *place) { testkit.Replace(p.t, p.options.Certificate, secretText) }, "there is no PEM certificate in it"},
		"half a certificate": {func(p *place) { must(p.t, os.Truncate(p.options.Certificate, 200)) }, "there is no PEM certificate in it"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, mock.RolesAnywhereOptions{}, nil)
			p.expect("web01")
			c.do(p)
			p.expect("web01")
			p.expect("web01")
			logged := p.log.String()
			if strings.Count(logged, "keeping the former ones") != 1 || !strings.Contains(logged, c.want) || strings.Contains(logged, secretText) {
				t.Errorf("logged %s, want one line with ...%s...", logged, c.want)
			}
			if err := p.source.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Check says %v, want ...%s...", err, c.want)
			}
			p.rotate("whole again")
			p.expect("whole again")
			must(t, p.source.Check())
		})
	}
}

func TestThePairNeverMixesOldAndNew(t *testing.T) {
	p := newPlace(t, mock.RolesAnywhereOptions{}, nil)
	p.expect("web01")
	testkit.LookWhile(t, func() error {
		_, err := p.source.Fetch(t.Context(), credential.Key{Name: "demo"})
		return err
	}, func() {
		for i := range 30 {
			p.rotate(fmt.Sprint("web", i))
			time.Sleep(5 * time.Millisecond)
		}
	})
	p.expect("web29")
}

func TestAFormerPairThatExpiresIsExplainedByTheOneThatCannotBeUsed(t *testing.T) {
	ends := time.Now().Add(5 * time.Second)
	p := newPlace(t, mock.RolesAnywhereOptions{}, func(p *place) {
		wanted := mock.CertificateFor("web01")
		wanted.NotAfter = ends
		p.issue(p.authority, wanted)
	})
	p.expect("web01")
	testkit.Replace(t, p.options.Key, "")
	time.Sleep(time.Until(ends) + 10*time.Millisecond)
	_, err := p.fetch()
	if err == nil || !strings.Contains(err.Error(), "expired on") ||
		!strings.HasSuffix(err.Error(), "the files have changed since, but cannot be used: key: "+p.options.Key+": there is no PEM private key in it") {
		t.Errorf("got %v", err)
	}
}

func TestChangedTellsOnceOfEachFile(t *testing.T) {
	p := newPlace(t, mock.RolesAnywhereOptions{}, func(p *place) {
		p.options.Chain = testkit.File(t, "chain.pem", mock.CertificatePEM(p.authority.Certificate))
		p.options.KeyPassword.File = testkit.File(t, "password", "x")
		p.options.TLS.CA = testkit.File(t, "ca.pem", mock.CertificatePEM(p.authority.Certificate))
	})
	files := p.source.Files()
	if len(files) != 5 || p.source.Changed() {
		t.Errorf("watches %v", files)
	}
	for _, file := range files {
		testkit.Replace(t, file, "x")
		if !p.source.Changed() || p.source.Changed() {
			t.Errorf("the change of %s is not told of once", file)
		}
	}
}

func TestTheEndOfACertificateIsSaidAheadOfTime(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		life, left time.Duration
		want       bool
	}{
		"fresh":                {90 * day, 89 * day, false},
		"a third is left":      {90 * day, 30 * day, false},
		"a sixth is left":      {90 * day, 15 * day, true},
		"of ten years a year":  {3650 * day, 365 * day, false},
		"of ten years a month": {3650 * day, 29 * day, true},
		"of a day an hour":     {day, time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, mock.RolesAnywhereOptions{}, func(p *place) {
				wanted := mock.CertificateFor("web01")
				wanted.NotAfter = time.Now().Add(c.left + 20*time.Second)
				wanted.NotBefore = wanted.NotAfter.Add(-c.life)
				p.issue(p.authority, wanted)
			})
			for range 3 {
				p.expect("web01")
			}
			warnings, lines := p.source.Warnings(), strings.Count(p.log.String(), `"level":"warn"`)
			if !c.want {
				if len(warnings) > 0 || lines > 0 {
					t.Errorf("warned %v and logged %s", warnings, p.log)
				}
				return
			}
			id, _, err := p.source.kept.Get()
			must(t, err)
			want := fmt.Sprintf("the certificate in %s expires on %s, in %v, and no renewal has come yet", p.options.Certificate, stamp(id.leaf.NotAfter), c.left)
			if len(warnings) != 1 || warnings[0] != want {
				t.Errorf("got %q, want %q", warnings, want)
			}
			if lines != 1 || !strings.Contains(p.log.String(), `"expires":"`+stamp(id.leaf.NotAfter)+`"`) {
				t.Errorf("logged %s, want one warning", p.log)
			}
			p.rotate("renewed")
			p.expect("renewed")
			if got := p.source.Warnings(); got != nil {
				t.Errorf("after a renewal: %q", got)
			}
		})
	}
}

// TestAnExpiredCertificateIsSaidWithoutAsking, and stops no start.
func TestAnExpiredCertificateIsSaidWithoutAsking(t *testing.T) {
	var ends time.Time
	p := newPlace(t, mock.RolesAnywhereOptions{}, func(p *place) {
		wanted := mock.CertificateFor("web01")
		wanted.NotBefore, wanted.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		ends = wanted.NotAfter
		p.issue(p.authority, wanted)
	})
	want := "the certificate in " + p.options.Certificate + " expired on " + stamp(ends) + "; put a new one and its key there"
	must(t, p.source.Check())
	if got := p.source.Warnings(); len(got) != 1 || got[0] != want {
		t.Errorf("warns %q, want %s", got, want)
	}
	if _, err := p.fetch(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if got := p.service.Requests().Total; got != 0 {
		t.Errorf("the service was asked %d times", got)
	}
}
