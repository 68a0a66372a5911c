# SPDX-License-Identifier: Apache-2.0
"""The project's version (a test compares it with meson.build)."""
__version__ = "0.1.0"
