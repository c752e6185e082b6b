import { testInEveryForm } from './mount-matrix.ts';

// The bundled image is for machines that have no real ones.
for (const image of [...(process.env['LAZYPULL_IMAGES'] ? [] : ['tiny']), 'torture', 'debian', 'nginx']) testInEveryForm(image);
