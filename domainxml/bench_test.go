package domainxml

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"testing"
	"time"
)

// BenchmarkParse reports, as ratio, how long Parse takes for each second that a bare token loop of
// encoding/xml takes.
func BenchmarkParse(b *testing.B) {
	doc, err := os.ReadFile("../testdata/captures/pg-primary-01/stop/stdin.xml")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	var parse, loop time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := Parse(doc); err != nil {
			b.Fatal(err)
		}
		parse += time.Since(start)

		b.StopTimer()
		start = time.Now()
		for d := xml.NewDecoder(bytes.NewReader(doc)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
		loop += time.Since(start)
		b.StartTimer()
	}
	b.ReportMetric(float64(parse)/float64(loop), "ratio")
}
