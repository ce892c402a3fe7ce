// Package audit writes down every access as a FHIR R4 AuditEvent, a JSON line each, in
// files that are only ever appended to.
//
// Rules that hold everywhere:
//   - An event says who, what, which, when, from where and how it ended. It never has
//     what stands in a resource, a value of a search parameter (unless asked for) or
//     a credential.
//   - No access goes unrecorded: while events cannot be written, Admit refuses, and the
//     server answers 503.
//   - Events are in memory for FlushEvery at most, and until the sync that follows: that
//     is what a crash may lose. Close writes all.
//   - After a failed write or sync a new file begins, and the batch is written again as
//     a whole: an event may then be there twice, under one id. So it is when the file
//     has lost its name, as who removes it removes what it has.
//   - A directory has one server at a time, and no file comes before an older one.
//   - What a Keeper keeps follows the files: it is read from them, in their order.
//
// Files: event.go (the line), log.go (queue and writer), file.go (files, rotation),
// follow.go (a second place for the events).
package audit
