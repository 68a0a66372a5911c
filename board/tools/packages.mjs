// SPDX-License-Identifier: Apache-2.0
//
// Makes the folder in which the board is bundled: package.json, the lock file, tsconfig.json, a link to the sources and
// node_modules, filled by `npm ci` (exactly what the lock file pins, no install scripts). Writes packages.json: where
// that folder is, or why there is none. When npm fails and the build is lenient, the dependency file names a file that
// never exists, so that the next build tries again.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const [npm, source, privateDir, output, depfile, mode] = process.argv.slice(2);
const folder = resolve(privateDir, 'pkg');

function install() {
    mkdirSync(folder, { recursive: true });
    for (const name of ['package.json', 'package-lock.json', 'tsconfig.json'])
        copyFileSync(join(source, name), join(folder, name));
    for (const name of ['src', 'test']) {
        rmSync(join(folder, name), { force: true });
        symlinkSync(join(source, name), join(folder, name));
    }
    const options = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--no-progress', '--prefer-offline',
        '--fetch-retries=1', '--fetch-retry-mintimeout=500', '--fetch-timeout=30000'];
    return spawnSync(npm, options, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function firstError(text) {
    const lines = text.split('\n').filter((line) => /^npm (error|ERR!)/.test(line));
    const line = lines.find((l) => !/ (code|errno|syscall) /.test(l)) ?? lines[0] ?? 'npm gave no reason';
    return line.replace(/^npm (error|ERR!)\s*/, '').slice(0, 200);
}

const result = install();
const state = result.status === 0 ? { folder } : { why: `npm ci failed (${firstError(result.stderr ?? '')})` };
if (state.why && mode === 'strict') {
    console.error(`board: ${state.why}\n${result.stderr ?? ''}`);
    process.exit(1);
}
if (state.why)
    console.error(`board: ${state.why}; the driver is built with a plain page instead (-Dboard=enabled makes this an error)`);
writeFileSync(output, JSON.stringify(state) + '\n');
writeFileSync(depfile, `${output}:${state.why ? ` ${resolve(privateDir, 'retry-npm')}` : ''}\n`);
