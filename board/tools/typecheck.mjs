// SPDX-License-Identifier: Apache-2.0
//
// tsc --noEmit over sources and tests.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const state = JSON.parse(readFileSync(process.argv[2], 'utf8'));
if (!state.folder) {
    console.log(`skipped: ${state.why}`);
    process.exit(77);
}
const tsc = join(state.folder, 'node_modules/typescript/bin/tsc');
process.exit(spawnSync(process.execPath, [tsc, '--noEmit', '-p', join(state.folder, 'tsconfig.json')], { stdio: 'inherit' }).status ?? 1);
