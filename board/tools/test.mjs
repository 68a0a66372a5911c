// SPDX-License-Identifier: Apache-2.0
//
// Bundles the unit tests and runs them with node's test runner; its TAP goes to standard output.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const { folder, why } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
if (!folder) {
    console.log(`1..0 # SKIP ${why}`);
    process.exit(0);
}
const esbuild = createRequire(join(folder, 'package.json'))('esbuild');
const out = mkdtempSync(join(tmpdir(), 'magpie-board-test-'));
try {
    const tests = readdirSync(join(folder, 'test')).filter((name) => name.endsWith('.test.ts')).sort();
    esbuild.buildSync({
        entryPoints: tests.map((name) => join('test', name)), bundle: true, platform: 'node', format: 'esm', target: ['node18'],
        outdir: out, outExtension: { '.js': '.mjs' }, absWorkingDir: folder, preserveSymlinks: true, sourcemap: 'inline', logLevel: 'warning',
    });
    const files = tests.map((name) => join(out, name.replace('.ts', '.mjs')));
    const args = ['--enable-source-maps', '--test', '--test-reporter=tap', ...files];
    process.exitCode = spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1;
} finally {
    rmSync(out, { recursive: true, force: true });
}
