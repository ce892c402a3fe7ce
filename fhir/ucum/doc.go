// Package ucum converts between units of the Unified Code for Units of Measure, by
// the table that its publisher offers as ucum-essence.xml. The table is not part of
// this program: its licence allows copies, but no changes and nothing derived from
// it. Whoever runs the program gives it an unchanged copy.
//
// Numbers are fractions of whole numbers, so a conversion is exact by the table.
// Units are converted when they are of one kind. That is a little less than UCUM
// says, where it would mix up what should be kept apart: an equivalent and an osmole
// are no moles here, and what stands in braces must be the same: "10*3/{cells}" is no
// "10*3". Of the units that are no multiples of others only temperatures are
// converted; logarithms are not.
//
// Files: table.go the table; parse.go how units are written; unit.go conversions.
package ucum
