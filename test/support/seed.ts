import fc from 'fast-check';

// Loaded before every test file. A run of the tests says the same today and tomorrow: properties start from one seed.
// FC_SEED=random looks further, FC_SEED=<number> repeats what such a run found.
const { FC_SEED: wanted } = process.env;
if (wanted !== 'random') fc.configureGlobal({ seed: Number(wanted ?? 2026) });
