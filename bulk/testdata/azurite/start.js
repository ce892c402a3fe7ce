// Starts Azurite's blob service with this process's arguments, and ends with
// whoever holds the other end of standard input.
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
require("azurite/dist/src/blob/main.js");
