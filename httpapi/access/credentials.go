package access

// CredentialsError refuses credentials that prove nothing.
type CredentialsError struct {
	// Code is OAuth's word for what is wrong (RFC 6750 section 3.1): invalid_token,
	// or invalid_request.
	Code string
	// Text is for the client and names no secret.
	Text string
	// Cause is for the log; nil: Text says all.
	Cause error
}

func (e *CredentialsError) Error() string { return e.Text }
func (e *CredentialsError) Unwrap() error { return e.Cause }
