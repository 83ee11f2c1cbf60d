package domainxml

import (
	"encoding/xml"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A token is all that a reader says of one.
type token struct {
	Kind     kind
	At, Next int
	Name     xml.Name
	Attr     []xml.Attr
	Text     string
}

// read returns all tokens and the error that ends them.
func read(r *reader) (tokens []token, err error) {
	for {
		k, err := r.next()
		if err != nil {
			return tokens, err
		}
		t := token{Kind: k, At: r.at, Next: r.offset()}
		switch k {
		case startElement:
			t.Name, t.Attr = r.name, append([]xml.Attr{}, r.attr...)
		case endElement:
			t.Name = r.name
		case charData:
			t.Text = r.text
		}
		tokens = append(tokens, t)
	}
}

// encodingXML is a reader for which nothing is plain.
func encodingXML(doc string, parts ...chunk) *reader {
	r := newReader(doc, parts...)
	r.dec = xml.NewDecoder(&r.src)
	return r
}

func sameTokens(t *testing.T, doc string, parts ...chunk) {
	t.Helper()
	want, wantErr := read(encodingXML(doc, slices.Clone(parts)...))
	got, err := read(newReader(doc, slices.Clone(parts)...))
	if diff := cmp.Diff(fmt.Sprint(wantErr), fmt.Sprint(err)); diff != "" {
		t.Fatalf("%+v: errors (-encoding/xml +ours):\n%s", parts, diff)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%+v: tokens (-encoding/xml +ours):\n%s", parts, diff)
	}
}

var lexemes = []string{
	`<a/>`, `<a  />`, `<a b="c"/>`, `<a b='c' d="'"/>`, `<a b="c"d="e"/>`, `<a b = "c"/>`, `<a b=c/>`, `<a b/>`, `<a b='<'/>`, `<a b='>'/>`, `<a b=']]>'/>`,
	`<a b="&lt;&gt;&amp;&apos;&quot;"/>`, `<a>&#10;&#x0a;&#xD;&#9;</a>`, `<a>&#0;</a>`, `<a>&#xD800;</a>`, `<a>&#xFFFE;</a>`, `<a>&#x10FFFF;&#x110000;</a>`, `<a>&#;</a>`,
	`<a>&#99999999999999999999;</a>`, `<a>&#x;</a>`, `<a>&#X41;</a>`, `<a>&b;</a>`, `<a>&lt</a>`, `<a>&</a>`, `<a>&;</a>`, `<a>& lt;</a>`, `<a>&#+9;</a>`, `<a>&#_9;</a>`, `<a>&#1_0;</a>`,
	`<a>]]></a>`, `<a>]]&gt;</a>`, `<a>]&#93;></a>`, `<a>]]]></a>`, `<a>]</a>`, "<a>\r\n</a>", "<a>\r</a>", "<a b='\r\n'/>", "<a b='\n\t'/>", "<a\r\nb=''/>", "<a>\x00</a>", "<a>\x0b</a>", "<a>\x7f</a>",
	"<a>é 😀</a>", "<é/>", "<aé/>", "<a é=''/>", "<a>\xff</a>", "<a>\ufffe</a>", "<a>\uffff</a>", "<a>\ufffd</a>", "<a>\xed\xa0\x80</a>", "<a b='\xff'/>",
	`<x:a xmlns:x="u" x:b=""/>`, `<x:a/>`, `<:a/>`, `<a:/>`, `<a:b:c/>`, `<a::b/>`, `<x:1 xmlns:x="u"/>`, `<1/>`, `<-/>`, `<.a/>`, `<a.-_1/>`, `<a xmlns="u"><b/></a>`, `<a xmlns:x=""/>`,
	`<a></a>`, `<a></a >`, `<a></ a>`, `<a></b>`, `<a>`, `</a>`, `<a`, `<a `, `<a b`, `<a b=`, `<a b='`, `<a b='c`, `<a /`, `<a / >`, `<`, `</`, `</a`, `<>`, `< a/>`,
	`<!-- c -->`, `<!-- -- -->`, `<a><!----></a>`, `<![CDATA[x]]>`, `<a><![CDATA[ <b> ]]></a>`, `<?p i?>`, `<?xml version="1.0"?>`, `<!DOCTYPE a>`, `text`, ` `, ``, `<a/>text`, "<a/>\n", `<a b="" b=""/>`, `<a>x<b/>y</a>`,
}

// What is read without encoding/xml is read as encoding/xml reads it, token for token and error for
// error, wherever the document is cut into stretches.
func FuzzLexer(f *testing.F) {
	for _, doc := range documents(f) {
		if len(doc) < 2000 {
			f.Add(string(doc), len(doc)/2)
		}
	}
	for _, text := range lexemes {
		for cut := range len(text) + 1 {
			f.Add(text, cut)
		}
	}
	f.Fuzz(func(t *testing.T, doc string, cut int) {
		sameTokens(t, doc, chunk{0, doc})
		if cut >= 0 && cut <= len(doc) {
			sameTokens(t, doc, chunk{0, doc[:cut]}, chunk{cut, doc[cut:]})
			sameTokens(t, doc, chunk{0, doc[:cut]}, chunk{cut, ""}, chunk{cut, doc[cut:]})
		}
	})
}

// A change that sends everything to encoding/xml would be right, and slow.
func TestWhatLibvirtWritesIsPlain(t *testing.T) {
	plain, all := 0, 0
	for file, doc := range documents(t) {
		d, err := Parse(doc)
		if err != nil {
			t.Fatal(file, err)
		}
		r := newReader(d.doc.text, chunk{d.doc.body, d.doc.text[d.doc.body:]})
		if _, err := read(r); err.Error() != "EOF" {
			t.Fatal(file, err)
		}
		all++
		if r.dec == nil {
			plain++
		}
	}
	t.Logf("%d of %d", plain, all)
	if plain*4 < all*3 {
		t.Errorf("only %d documents of %d are plain", plain, all)
	}
}
