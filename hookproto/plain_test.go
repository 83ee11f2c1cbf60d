package hookproto

import (
	"encoding/xml"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// plainTokens returns the same tokens as encoding/xml at the same offsets.
func FuzzPlainTokens(f *testing.F) {
	for _, file := range []string{"running", "backup-running", "block-copy-running"} {
		head, rest, _ := strings.Cut(capture(f, file, 4711), "<qemuCaps>")
		f.Add(head + "<qemuCaps>\n<flag name='a'/>" + rest[strings.Index(rest, "</qemuCaps>"):])
	}
	for _, text := range []string{
		`<a/>`, `<a />`, `<a b='c'/>`, `<a b="c'" d='"'/>`, "<a\n b=''\n/>", `<a b='>]]>'/>`, `<a b='x'c='y'/>`, `<a b = 'c'/>`, `<a b=c/>`, `<a b/>`, `<a b='<'/>`, `<a b='&lt;'/>`, "<a b='\t\n'/>", `<a b='' b=''/>`,
		`<a>x</a>`, `<a>]]></a>`, `<a>]</a>`, `<a>></a>`, `<a>&amp;</a>`, "<a>\r\n</a>", "<a>\x00</a>", "<a>\x7f</a>", "<a>é</a>", `<a></a >`, `</a>`, `<a></b>`, `<a><b></a></b>`, `<a`, `<a b='`, `<`, `</`, `<>`, ``, ` `, `x`,
		`<x:a xmlns:x='u'/>`, `<a xmlns='u'/>`, `<a xmlns:x=''/>`, `<a xmlns:x='' x:b='c'/>`, `<a xmlns:='u'/>`, `<a xmlns:x:y='u'/>`, `<a xmlns:1='u'/>`, `<xmlns/>`, `<:a/>`, `<1/>`, `<-/>`, `<a.-_1/>`, `<aé/>`, `<a é=''/>`, `<a b:=''/>`,
		`<!-- c --><a/>`, `<!----><a/>`, `<!---><a/>`, `<!--x---><a/>`, `<!--a--b--><a/>`, `<!-- & < --><a/>`, `<!--`, `<a><!--c-->x</a>`, `<!DOCTYPE a><a/>`, `<?xml version='1.0'?><a/>`, `<a><![CDATA[x]]></a>`, `<a/><b/>`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		plain, full := &plainTokens{text: text}, xml.NewDecoder(strings.NewReader(text))
		for {
			token, err := plain.Token()
			if errors.Is(err, errNotPlain) {
				return
			}
			want, wantErr := full.Token()
			if diff := cmp.Diff(want, token, cmpopts.EquateEmpty()); wantErr != nil || err != nil || diff != "" {
				t.Fatalf("%v, %v (-encoding/xml +ours):\n%s", wantErr, err, diff)
			}
			if plain.InputOffset() != full.InputOffset() {
				t.Fatalf("%v ends at %d, and not at %d", token, full.InputOffset(), plain.InputOffset())
			}
		}
	})
}

// A change that leaves everything to encoding/xml would be right, but slow.
func TestWhatLibvirtWritesIsPlain(t *testing.T) {
	for _, file := range []string{"running", "backup-running", "block-copy-running", "paused-user", "panicked-at-stop", "guest-powered-off-at-stop"} {
		data := withoutCapabilities([]byte(capture(t, file, 4711)))
		if _, err := parseElements(&plainTokens{text: string(data)}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
