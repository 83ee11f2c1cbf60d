package fleetconfig

import "testing"

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	good := Settings{Endpoints: []string{"https://10.0.0.1:2379"}, CA: "ca", Certificate: "c", Key: "k"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		why   string
		spoil func(*Settings)
	}{
		{"no endpoint", func(s *Settings) { s.Endpoints = nil }},
		{"no TLS", func(s *Settings) { s.Endpoints = []string{"http://10.0.0.1:2379"} }},
		{"no scheme", func(s *Settings) { s.Endpoints = []string{"10.0.0.1:2379"} }},
		{"a path", func(s *Settings) { s.Endpoints = []string{"https://10.0.0.1:2379/v3"} }},
		{"no authority", func(s *Settings) { s.CA = "" }},
		{"no certificate", func(s *Settings) { s.Certificate = "" }},
		{"no key", func(s *Settings) { s.Key = "" }},
		{"a lease that one lost packet ends", func(s *Settings) { s.LeaseSeconds = 1 }},
		{"a negative lease", func(s *Settings) { s.LeaseSeconds = -1 }},
		{"a reservation that a lease outlasts", func(s *Settings) { s.ReservationSeconds = 59 }},
	} {
		s := good
		if tt.spoil(&s); s.Check() == nil {
			t.Error(tt.why)
		}
	}
}
