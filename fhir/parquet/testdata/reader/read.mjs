// Prints the rows of a Parquet file, a line of JSON each.
import { readFileSync } from 'node:fs'
import { parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'

const bytes = readFileSync(process.argv[2])
const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
for (const row of await parquetReadObjects({ file, compressors })) {
  console.log(JSON.stringify(row))
}
