package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.yaml.in/yaml/v3"

	"kiln/httpapi/access"
)

// fileConfig is the YAML file as it is written. README.md has a whole example.
type fileConfig struct {
	ClockSkew    *time.Duration      `yaml:"clock-skew"`
	Issuers      []issuerConfig      `yaml:"issuers"`
	Clients      []clientConfig      `yaml:"clients"`
	Certificates []certificateConfig `yaml:"certificates"`
}

type issuerConfig struct {
	URL        string              `yaml:"url"`
	Audiences  []string            `yaml:"audiences"`
	Algorithms []string            `yaml:"algorithms"`
	KeysURL    string              `yaml:"keys-url"`
	RoleClaims []string            `yaml:"role-claims"`
	Roles      map[string]roleList `yaml:"roles"`
}

// roleList is one role or a list of them.
type roleList access.Roles

// UnmarshalYAML reads a role's name, or a list of names.
func (r *roleList) UnmarshalYAML(node *yaml.Node) error {
	var names []string
	if node.Kind == yaml.ScalarNode {
		names = []string{node.Value}
	} else if err := node.Decode(&names); err != nil {
		return err
	}
	for _, name := range names {
		role, err := access.ParseRole(name)
		if err != nil {
			return fmt.Errorf("line %d: %w", node.Line, err)
		}
		*r |= roleList(role)
	}
	return nil
}

// azureRoles are the roles of Azure's FHIR service. They are what an issuer's
// claims mean unless the file says otherwise; nobody is Admin by default.
func azureRoles() map[string]access.Roles {
	return map[string]access.Roles{
		"FHIR Data Reader":      access.RoleReader,
		"FHIR Data Writer":      access.RoleWriter,
		"FHIR Data Contributor": access.RoleContributor,
		"FHIR Data Importer":    access.RoleImporter,
		"FHIR Data Exporter":    access.RoleExporter,
	}
}

// config is what the file says, checked.
type config struct {
	skew         time.Duration
	issuers      map[string]*issuer
	clients      map[string]*client
	certificates []certificateRule
	known        knownCertificates
}

// parseConfig reads the file. Keys that it does not know are errors, so that a
// typing error is not silently a default; errors tell line and field.
func parseConfig(text []byte) (*config, error) {
	var file fileConfig
	var root yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the file is empty: name issuers, clients or certificates")
		}
		return nil, plainYAML(err)
	}
	if err := decoder.Decode(new(fileConfig)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the file has more than one document")
	}
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, plainYAML(err)
	}
	at := place{node: root.Content[0]}
	c := &config{skew: skewDefault, issuers: map[string]*issuer{}, clients: map[string]*client{}}
	if file.ClockSkew != nil {
		c.skew = *file.ClockSkew
	}
	if c.skew < 0 || c.skew > skewMax {
		return nil, at.key("clock-skew").errorf("it is not between 0s and %s", skewMax)
	}
	if err := c.add(at, &file); err != nil {
		return nil, err
	}
	if len(c.issuers)+len(c.clients)+len(c.certificates) == 0 {
		return nil, errors.New("the file lets nobody in: name issuers, clients or certificates")
	}
	return c, nil
}

func (c *config) add(at place, file *fileConfig) error {
	for i := range file.Issuers {
		if err := c.addIssuer(at.key("issuers").item(i), &file.Issuers[i]); err != nil {
			return err
		}
	}
	for i := range file.Clients {
		if err := c.addClient(at.key("clients").item(i), &file.Clients[i]); err != nil {
			return err
		}
	}
	for i := range file.Certificates {
		if err := c.addCertificate(at.key("certificates").item(i), &file.Certificates[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *config) addIssuer(at place, from *issuerConfig) error {
	if err := checkURL(from.URL); err != nil {
		return at.key("url").errorf("%w", err)
	}
	if c.issuers[from.URL] != nil {
		return at.key("url").errorf("the issuer is there twice")
	}
	if len(from.Audiences) == 0 || slices.Contains(from.Audiences, "") {
		return at.key("audiences").errorf("name what the issuer calls this server in aud; without it tokens for other servers would do")
	}
	i := &issuer{url: from.URL, audiences: from.Audiences, keysURL: from.KeysURL, algorithms: defaultAlgorithms, roleClaims: from.RoleClaims, roles: azureRoles()}
	if from.KeysURL != "" {
		if err := checkURL(from.KeysURL); err != nil {
			return at.key("keys-url").errorf("%w", err)
		}
	}
	if len(from.Algorithms) > 0 {
		i.algorithms = nil
	}
	for n, name := range from.Algorithms {
		algorithm := jose.SignatureAlgorithm(name)
		if !slices.Contains(knownAlgorithms, algorithm) {
			return at.key("algorithms").item(n).errorf("%q is none of %v", name, knownAlgorithms)
		}
		i.algorithms = append(i.algorithms, algorithm)
	}
	if len(i.roleClaims) == 0 {
		i.roleClaims = []string{"roles"}
	}
	if from.Roles != nil {
		i.roles = map[string]access.Roles{}
	}
	for value, roles := range from.Roles {
		i.roles[value] = access.Roles(roles)
	}
	c.issuers[i.url] = i
	return nil
}

// place is where in the file something is, for errors.
type place struct {
	node *yaml.Node // the nearest that is there
	path string
}

func (p place) key(name string) place {
	inner := place{p.node, strings.TrimPrefix(p.path+"."+name, ".")}
	if p.node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(p.node.Content); i += 2 {
			if p.node.Content[i].Value == name {
				inner.node = p.node.Content[i+1]
			}
		}
	}
	return inner
}

func (p place) item(i int) place {
	inner := place{p.node, fmt.Sprintf("%s[%d]", p.path, i)}
	if p.node.Kind == yaml.SequenceNode && i < len(p.node.Content) {
		inner.node = p.node.Content[i]
	}
	return inner
}

func (p place) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %s: %w", p.node.Line, p.path, fmt.Errorf(format, args...))
}

// plainYAML takes the names of Go types out of the library's errors.
func plainYAML(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.Join(strings.Fields(strings.TrimPrefix(text, "unmarshal errors:")), " ")
	for _, name := range []string{"fileConfig", "issuerConfig", "clientConfig", "certificateConfig"} {
		text = strings.ReplaceAll(text, " in type auth."+name, " (no such key)")
	}
	return errors.New(text)
}
