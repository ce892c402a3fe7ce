package main

import (
	"kiln/bulk"
	"kiln/httpapi"
)

// limitFlags bound what one client may ask for and leave behind. A client is who its
// credentials say, or the address where nobody is asked.
type limitFlags struct {
	ClientRate        float64  `default:"0" placeholder:"N" help:"Requests a second of one client, on the average; more are told 429. 0: any number (${default})."`
	ClientBurst       int      `default:"0" placeholder:"N" help:"Requests of one client at once, after a pause; 0: those of a second (${default})."`
	ClientConcurrent  int      `default:"1024" placeholder:"N" help:"Requests of one client that are handled at a time; 0: any number (${default})."`
	ClientJobs        int      `default:"100" placeholder:"N" help:"Imports and exports of one client that are not finished, where --auth asks who is calling; 0: any number (${default})."`
	ExportQuota       byteSize `default:"0" placeholder:"BYTES" help:"No export begins, and a running one fails, when those on this server's disk would have more bytes; 0: no bound (${default})."`
	ClientExportQuota byteSize `default:"0" placeholder:"BYTES" help:"The same for the exports of one client, where --auth asks who is calling; 0: no bound (${default})."`
}

func (f *limitFlags) check() error {
	if !(f.ClientRate >= 0 && f.ClientRate <= 1e9) || f.ClientBurst < 0 || f.ClientConcurrent < 0 || f.ClientJobs < 0 {
		return usageError("--client-rate, --client-burst, --client-concurrent and --client-jobs are numbers from 0 on")
	}
	return nil
}

func (f *limitFlags) limits() httpapi.ClientLimits {
	return httpapi.ClientLimits{RequestsPerSecond: f.ClientRate, Burst: f.ClientBurst, Concurrent: f.ClientConcurrent}
}

func (f *limitFlags) quotas() bulk.Quotas {
	return bulk.Quotas{Jobs: f.ClientJobs, ExportBytes: int64(f.ExportQuota), ClientExportBytes: int64(f.ClientExportQuota)}
}
