/** The clock of the service, by which requests expire. That of the browser may be wrong. */

/** The time that an answer may take on its way is no difference of the clocks. */
const TOLERANCE_MS = 5000;

let ahead = 0;

/** @param {Response} response Its field `Date` tells the time of the service. */
export function readClock(response) {
  const by = Date.parse(response.headers.get('date') ?? '') - Date.now();
  ahead = Math.abs(by) > TOLERANCE_MS ? by : 0;
}

/** @returns {number} The time of the service. */
export function serviceNow() {
  return Date.now() + ahead;
}
