package patch

const (
	// operationsMax bounds the operations of one patch; patches made by hand or by
	// a program that compares two resources have tens.
	operationsMax = 1000
	// workFactor: all operations together may read and copy this many times the
	// result's largest size; beyond it the patch would keep a core busy for seconds.
	workFactor = 8
	// workPerOperation is the price of an operation that touches nothing much.
	workPerOperation = 64
)

// budget is what a patch may still spend.
type budget struct {
	bytesMax int
	work     int
}

func newBudget(bytesMax int) budget { return budget{bytesMax, workFactor * bytesMax} }

// spend counts bytes that are read or copied.
func (b *budget) spend(bytes int) error {
	b.work -= bytes + workPerOperation
	if b.work < 0 {
		return tooLarge("The patch takes too much work; split it.")
	}
	return nil
}
