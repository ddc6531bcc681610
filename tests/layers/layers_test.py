"""The layers hold, and tools/check_layers finds what is planted."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def check(root):
    return subprocess.run([sys.executable, ROOT / "tools" / "check_layers", root], capture_output=True, text=True)


class Layers(unittest.TestCase):
    def test_the_project_holds_them(self):
        result = check(ROOT)
        self.assertEqual(result.returncode, 0, result.stdout)

    def planted(self, file, line):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(ROOT / "src", pathlib.Path(folder) / "src")
            path = pathlib.Path(folder) / "src" / file
            path.write_text(line + "\n" + path.read_text())
            return check(folder)

    def test_an_include_of_a_higher_folder_is_found(self):
        result = self.planted("base/text.cc", '#include "formats/dataset/dataset.h"')
        self.assertEqual(result.returncode, 1)
        self.assertIn("src/base/text.cc:1: base includes formats", result.stdout)

    def test_an_include_that_is_not_listed_is_found(self):
        result = self.planted("formats/dataset/dataset.cc", '#include "hardware/cpu.h"')
        self.assertEqual(result.returncode, 1)
        self.assertIn("formats includes hardware", result.stdout)

    def test_a_use_of_a_higher_level_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(ROOT / "src", pathlib.Path(folder) / "src")
            path = pathlib.Path(folder) / "src" / "nn" / "CMakeLists.txt"
            path.write_text(path.read_text().replace("USES base kernels", "USES base kernels models"))
            result = check(folder)
            self.assertEqual(result.returncode, 1)
            self.assertIn("nn may not use models", result.stdout)


if __name__ == "__main__":
    unittest.main()
