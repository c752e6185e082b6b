import { testInEveryForm } from './mount-matrix.ts';

for (const image of ['torch', 'python']) testInEveryForm(image);
