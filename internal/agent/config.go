package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/config"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stopguard/stopguard/internal/fleetconfig"
	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/internal/problem"
)

// settings is the section stopguard of the agent's configuration.
type settings struct {
	// Socket is the path of the socket for hooks and local programs; "" means defaultSocket.
	Socket string `json:"socket"`

	// Listen is a TCP listener for other hosts, such as a scraper of metrics; nil means that the
	// agent listens on the socket only.
	Listen *listen `json:"listen"`

	// Fleet is the etcd of the host's fleet; nil means that the host does not take part in a fleet.
	Fleet *fleetconfig.Settings `json:"fleet"`
}

// A listen is a TCP listener. It needs TLS, and a client certificate or a token.
type listen struct {
	Address     string `json:"address"`     // host:port
	Certificate string `json:"certificate"` // PEM file of the server's certificate and its chain
	Key         string `json:"key"`         // PEM file of its private key
	ClientCA    string `json:"client_ca"`   // PEM file of the authorities of clients' certificates
	TokenFile   string `json:"token_file"`  // file of the token for clients without a certificate
}

const defaultSocket = "/run/stopguard/agent.sock"

// A configuration is /etc/stopguard/agent.yaml, read and checked.
type configuration struct {
	persisted.Config
	settings settings
	boot     map[string]any // the sections that are OPA's
}

// readConfiguration reads the configuration. It checks everything but the sections that OPA's
// plugins read.
func readConfiguration(root string) (configuration, error) {
	read, err := persisted.ReadConfig(root)
	if errors.Is(err, fs.ErrNotExist) {
		return configuration{}, fmt.Errorf("%w; write OPA's configuration into it, see docs/agent.md", err)
	}
	if err != nil {
		return configuration{}, err
	}
	c, err := parseConfiguration(read)
	if err != nil {
		return configuration{}, fmt.Errorf("%s: %w", persisted.ConfigFile, err)
	}
	return c, nil
}

var variable = regexp.MustCompile(`\$\{[^}]*\}`)

func parseConfiguration(read persisted.Config) (configuration, error) {
	c := configuration{Config: read}
	if at := variable.Find(read.Content); at != nil {
		return c, fmt.Errorf("%s would not be replaced by a variable of the environment, which a hook does not have; name a file, as with token_path", at)
	}
	if err := util.Unmarshal(read.Content, &c.boot); err != nil {
		return c, fmt.Errorf("%s; correct it", problem.OneLine(err.Error()))
	}
	if ours, ok := c.boot["stopguard"]; ok {
		if err := decode(ours, &c.settings); err != nil {
			return c, fmt.Errorf("stopguard: %w", err)
		}
	}
	delete(c.boot, "stopguard")
	if c.settings.Socket == "" {
		c.settings.Socket = defaultSocket
	}
	if !path.IsAbs(c.settings.Socket) || path.Clean(c.settings.Socket) != c.settings.Socket {
		return c, fmt.Errorf("stopguard.socket is %q; write an absolute path in its shortest form", c.settings.Socket)
	}
	if err := c.settings.Listen.check(); err != nil {
		return c, fmt.Errorf("stopguard.listen: %w", err)
	}
	if c.settings.Fleet != nil {
		if err := c.settings.Fleet.Check(); err != nil {
			return c, fmt.Errorf("stopguard.fleet: %w", err)
		}
	}
	if c.boot == nil {
		c.boot = map[string]any{}
	}
	c.boot["persistence_directory"] = filepath.Join("/", c.Folder.Root, c.Folder.Path) // OPA stores a registry's layers there
	return c, nil
}

// decode decodes a section, in which an unknown setting is an error. Otherwise a misspelt setting
// would have no effect.
func decode(section any, to any) error {
	content, err := json.Marshal(section)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(strings.NewReader(string(content)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(to); err != nil {
		return fmt.Errorf("%s; correct or remove it", strings.TrimPrefix(problem.OneLine(err.Error()), "json: "))
	}
	return nil
}

func (l *listen) check() error {
	switch {
	case l == nil:
		return nil
	case l.Address == "":
		return errors.New("address is missing; write host:port")
	case l.Certificate == "" || l.Key == "":
		return errors.New("certificate and key are missing; the agent does not answer over TCP without TLS")
	case l.ClientCA == "" && l.TokenFile == "":
		return errors.New("client_ca and token_file are missing; the agent answers nobody over TCP who shows neither a certificate nor a token")
	}
	if _, _, err := net.SplitHostPort(l.Address); err != nil {
		return fmt.Errorf("address: %s; write host:port", problem.OneLine(err.Error()))
	}
	return nil
}

// opaSections are the sections of OPA's configuration that the agent uses. OPA itself only warns
// about a misspelt section. If keys is misspelt, every bundle would be accepted.
var opaSections = []string{
	"services", "labels", "discovery", "bundles", "decision_logs", "status", "keys", "persistence_directory", "default_decision",
}

// defaultBuffer bounds the decision log's buffer, in bytes of compressed events, unless the
// configuration sets a limit. OPA's own default is unbounded.
const defaultBuffer = 64 << 20

// validateConfig returns OPA's configuration, written or discovered, with the settings that the
// agent's promises need. A section that would weaken them silently is an error. keys is set if
// bundles must be signed.
func validateConfig(c *config.Config, keys bool) (*config.Config, error) {
	sections := map[string]json.RawMessage{}
	content, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &sections); err != nil {
		return nil, err
	}
	maps.Copy(sections, c.Extra)
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		// OPA adds a default_authorization_decision, which is not used here.
		if !slices.Contains(opaSections, name) && name != "default_authorization_decision" && string(sections[name]) != "false" {
			return nil, fmt.Errorf("%s is not heeded by the agent; correct or remove it (it heeds stopguard, %s)", name, strings.Join(opaSections, ", "))
		}
	}
	if c.Bundles, err = validateBundles(c.Bundles, keys); err != nil {
		return nil, err
	}
	if c.Discovery, err = validateDiscovery(c.Discovery, keys); err != nil {
		return nil, err
	}
	c.DecisionLogs, err = validateLogs(c.DecisionLogs)
	return c, err
}

func unmarshalSection(raw json.RawMessage, to any) error {
	if len(raw) == 0 {
		return nil
	}
	return util.Unmarshal(raw, to)
}

// validateBundles returns the bundles with OPA's own persistence off, and with verification on if
// there are keys. OPA's copy may be torn and does not list missing files, so the agent writes its
// own.
func validateBundles(raw json.RawMessage, keys bool) (json.RawMessage, error) {
	var bundles map[string]map[string]any
	if err := unmarshalSection(raw, &bundles); err != nil || bundles == nil {
		return raw, err
	}
	for name, source := range bundles {
		if source == nil {
			return nil, fmt.Errorf("bundles.%s is empty; say where it comes from, or remove it", name)
		}
		if err := validateSource(source, keys); err != nil {
			return nil, fmt.Errorf("bundles.%s.%w", name, err)
		}
	}
	return json.Marshal(bundles)
}

func validateDiscovery(raw json.RawMessage, keys bool) (json.RawMessage, error) {
	var discovery map[string]any
	if err := unmarshalSection(raw, &discovery); err != nil || discovery == nil {
		return raw, err
	}
	if err := validateSource(discovery, keys); err != nil {
		return nil, fmt.Errorf("discovery.%w", err)
	}
	return json.Marshal(discovery)
}

func validateSource(source map[string]any, keys bool) error {
	source["persist"] = false
	signing, ok := source["signing"].(map[string]any)
	if !ok && keys {
		// Without this section OPA would accept a bundle without a signature.
		signing = map[string]any{}
		source["signing"] = signing
	}
	if signing["exclude_files"] != nil {
		return errors.New("signing.exclude_files would let files in that nobody signed; remove it, and sign them")
	}
	return nil
}

func validateLogs(raw json.RawMessage) (json.RawMessage, error) {
	var logs map[string]any
	if err := unmarshalSection(raw, &logs); err != nil || logs == nil {
		return raw, err
	}
	if logs["mask_decision"] != nil || logs["drop_decision"] != nil {
		return nil, errors.New("decision_logs: mask_decision and drop_decision are not asked; write a package system.log into the bundle")
	}
	reporting, ok := logs["reporting"].(map[string]any)
	if !ok {
		reporting = map[string]any{}
		logs["reporting"] = reporting
	}
	if reporting["buffer_size_limit_bytes"] == nil && reporting["buffer_type"] != "event" {
		reporting["buffer_size_limit_bytes"] = defaultBuffer
	}
	return json.Marshal(logs)
}

// merge returns the settings of over, and those of under that over does not have. A written
// configuration takes precedence over a discovered one.
func merge(under, over map[string]any) map[string]any {
	merged := maps.Clone(under)
	if merged == nil {
		merged = map[string]any{}
	}
	for key, value := range over {
		lower, isMap := merged[key].(map[string]any)
		upper, alsoMap := value.(map[string]any)
		if isMap && alsoMap {
			value = merge(lower, upper)
		}
		merged[key] = value
	}
	return merged
}
