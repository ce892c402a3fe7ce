package access

import "fmt"

// Roles is a set of roles. What each allows is in the table of this package; the
// names are those of Azure's FHIR service, without "FHIR Data".
type Roles uint8

// Reader reads and searches; Writer creates, updates and deletes; Contributor is
// both; Importer starts imports, Exporter exports; Admin may do everything,
// other clients' jobs included.
const (
	RoleReader Roles = 1 << iota
	RoleWriter
	RoleImporter
	RoleExporter
	RoleAdmin

	RoleContributor = RoleReader | RoleWriter
)

// ParseRole reads a role's name as the configuration writes it.
func ParseRole(name string) (Roles, error) {
	switch name {
	case "Reader":
		return RoleReader, nil
	case "Writer":
		return RoleWriter, nil
	case "Contributor":
		return RoleContributor, nil
	case "Importer":
		return RoleImporter, nil
	case "Exporter":
		return RoleExporter, nil
	case "Admin":
		return RoleAdmin, nil
	default:
		return 0, fmt.Errorf("cannot know the role %q: the roles are Reader, Writer, Contributor, Importer, Exporter, Admin", name)
	}
}
