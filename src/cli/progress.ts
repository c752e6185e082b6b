import type { Meter } from './meter.ts';
import type { Output } from './output.ts';

/**
 * Shows a meter as a spinner with text on the terminal's last line while `work` runs.
 * Without a terminal, or when progress is not wanted, nothing is shown and the spinner's code is not even loaded.
 */
export async function withProgress<T>(out: Output, meter: Meter, work: () => Promise<T>): Promise<T> {
  if (!out.progress) return work();
  const { default: ora } = await import('ora');
  // stdin stays as it is, so that Ctrl-C reaches the process as a signal. Messages in between are ora's business: it makes
  // room for whatever is written to the same terminal.
  const spinner = ora({ text: meter.text(), stream: out.stderr, isEnabled: true, discardStdin: false, color: out.colour ? 'cyan' : false });
  const refresh = setInterval(() => {
    spinner.text = meter.text();
  }, 100);
  spinner.start();
  try {
    return await work();
  } finally {
    clearInterval(refresh);
    spinner.stop();
  }
}
