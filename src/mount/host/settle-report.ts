/**
 * Takes the process' diagnostic report once, for everybody who asks for one later. A report waits for every thread to contribute, and
 * the one that serves FUSE is in a system call until a request comes; packages with native code ask for one when they are loaded, to
 * find out which C library there is. To be called before that thread begins.
 */
export function settleReport(): void {
  const { report } = process;
  // Looking up the names of peers may take seconds.
  Object.assign(report, { excludeNetwork: true });
  const settled = report.getReport();
  report.getReport = () => settled;
}
