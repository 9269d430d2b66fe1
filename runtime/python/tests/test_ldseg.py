"""What the Python interface gives, on the bundle and the cine that come along; tests/tests/python.rs runs it.

LDSEG_MODELS is the folder `models`, LDSEG_FRAME a raw frame of uint8, and LDSEG_EXPECTED what the Rust library makes of
it: a JSON document beside raw labels and probabilities.
"""

import json
import os
import signal
import sys
import threading
import unittest
from pathlib import Path

import numpy as np

import ldseg

EXPECTED = json.loads(Path(os.environ["LDSEG_EXPECTED"]).read_text())
HEIGHT, WIDTH, CLASSES = EXPECTED["height"], EXPECTED["width"], EXPECTED["classes"]
FRAME = np.fromfile(os.environ["LDSEG_FRAME"], np.uint8).reshape(HEIGHT, WIDTH)
LABELS = np.fromfile(EXPECTED["labels"], np.uint8).reshape(HEIGHT, WIDTH)
PROBABILITIES = np.fromfile(EXPECTED["probabilities"], np.float32).reshape(len(CLASSES), HEIGHT, WIDTH)
BUNDLE = Path(os.environ["LDSEG_MODELS"]) / "echo"
VOLUMES = os.environ["LDSEG_VOLUME_BUNDLE"]


class Segmenting(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.segmenter = ldseg.Segmenter(BUNDLE)

    def test_gives_what_the_rust_library_gives(self):
        result = self.segmenter.segment(FRAME, spacing=EXPECTED["spacing"])
        np.testing.assert_array_equal(result.labels, LABELS)
        np.testing.assert_array_equal(result.probabilities, PROBABILITIES)
        self.assertEqual((result.labels.dtype, result.probabilities.dtype), (np.uint8, np.float32))
        self.assertEqual(result.uncertainty.shape, (HEIGHT, WIDTH))
        measured = {
            chamber: {key: value for key, value in found.items() if not key.endswith("_interval")}
            for chamber, found in result.measurements.items()
        }
        self.assertEqual(measured, EXPECTED["measurements"])
        for found in result.measurements.values():
            low, high = found["area_cm2_interval"]
            self.assertTrue(low < found["area_cm2"] < high)
        self.assertEqual([c.name for c in result.classes], [c["name"] for c in CLASSES])
        self.assertEqual([list(c.colour) for c in self.segmenter.classes], [c["colour"] for c in CLASSES])
        self.assertEqual(result.steps, 1)
        self.assertGreater(result.timings["label_decoder"], 0)

    def test_the_type_and_the_strides_of_the_array_make_no_difference(self):
        wide = np.zeros((2 * HEIGHT, 3 * WIDTH), np.float32)
        wide[::2, ::-3] = FRAME
        colour = np.repeat(FRAME[..., None], 3, axis=2)
        same = [FRAME.astype(np.uint16), FRAME.astype(np.float32), np.asfortranarray(FRAME), wide[::2, ::-3], colour]
        for image in same:
            np.testing.assert_array_equal(self.segmenter.segment(image).labels, LABELS)

    def test_settings_reach_the_sampler(self):
        def probabilities(**settings):
            return self.segmenter.segment(FRAME[::4, ::4], **settings).probabilities

        ddim = probabilities(sampler="ddim", steps=2, samples=2, seed=7, frame=3)
        np.testing.assert_array_equal(ddim, probabilities(sampler="ddim", steps=2, samples=2, seed=7, frame=3))
        for other in [{"seed": 8}, {"frame": 4}, {"samples": 1}, {"steps": 3}, {"sampler": "ddpm"}]:
            settings = {"sampler": "ddim", "steps": 2, "samples": 2, "seed": 7, "frame": 3} | other
            self.assertFalse(np.array_equal(ddim, probabilities(**settings)), other)

    def test_colour_is_segmented_by_its_luminance_and_that_is_noted(self):
        colour = np.stack([FRAME, FRAME // 2, FRAME // 4], axis=-1)
        result = self.segmenter.segment(colour, spacing=0.5)
        self.assertEqual(result.notes, ["is in colour, and its luminance is taken"])
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        grey = (colour.astype(np.float32) * weights).sum(axis=-1, dtype=np.float32)
        found = self.segmenter.segment(grey, spacing=0.5)
        self.assertEqual(found.notes, [])
        self.assertGreater((found.labels == result.labels).mean(), 0.999)
        self.assertEqual(self.segmenter.segment(np.stack([FRAME] * 3, axis=-1), spacing=0.5).notes, [])

    def test_without_a_spacing_nothing_is_measured(self):
        result = self.segmenter.segment(FRAME)
        self.assertIsNone(result.measurements)
        self.assertEqual(result.notes, ["is not measured: its pixel spacing is not known"])

    def test_wrong_images_and_settings_are_python_exceptions(self):
        def refused(exception, text, image=FRAME, **settings):
            with self.assertRaisesRegex(exception, text):
                self.segmenter.segment(image, **settings)

        refused(TypeError, "array of float64", FRAME.astype(np.float64))
        refused(TypeError, "of type list", [[1, 2], [3, 4]])
        refused(ValueError, r"shape \[7\]", FRAME[0, :7])
        refused(ValueError, "2 channels", np.eye(8, dtype=np.uint8).reshape(4, 8, 2))
        refused(ValueError, "shape", np.zeros((0, 4), np.uint8))
        refused(ValueError, "not finite", np.full((4, 4), np.nan, np.float32))
        refused(ValueError, "spacing", spacing=-1.0)
        refused(ValueError, "spacing", spacing=[1.0, 1.0, 1.0])
        refused(ValueError, "unknown sampler `magic`", sampler="magic")
        refused(ValueError, "samples is 0", samples=0)
        refused(ValueError, "steps is 1000000", sampler="ddim", steps=1_000_000)

    def test_an_array_without_the_memory_for_its_shape_is_an_exception(self):
        claimed = np.broadcast_to(np.zeros((1, 1), np.uint8), (1_000_000, 1_000_000))
        with self.assertRaisesRegex(ValueError, "expected at most 536870912 values"):
            self.segmenter.segment(claimed)

    def test_other_threads_go_on_meanwhile(self):
        interval = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, interval)
        # So that no thread is asked to give way: this one runs only when the other lets go of the interpreter's lock.
        sys.setswitchinterval(1000.0)
        started, stop = threading.Event(), threading.Event()
        segmented = []

        def work():
            started.set()
            while len(segmented) < 1000 and not stop.is_set():
                segmented.append(self.segmenter.segment(FRAME))

        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        stop.set()
        thread.join()
        self.assertLess(len(segmented), 1000)

    def test_threads_share_a_segmenter(self):
        results = {}

        def work(seed):
            results[seed] = self.segmenter.segment(FRAME, seed=seed).probabilities

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_array_equal(results[0], PROBABILITIES)
        for seed in (1, 2):
            np.testing.assert_array_equal(results[seed], self.segmenter.segment(FRAME, seed=seed).probabilities)


class Processes(unittest.TestCase):
    def in_a_fork(self, work):
        """What `work` returns in a child of this process, or fails with, as text; the child is killed after a minute."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(60)
                answer = str(work())
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(writer, answer.encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as answers:
            answer = answers.read()
        self.assertEqual(os.waitpid(child, 0)[1], 0, "the child ends by itself")
        return answer

    @unittest.skipUnless(hasattr(os, "fork"), "no fork")
    def test_a_fork_loads_its_own_and_is_told_so(self):
        segmenter = ldseg.Segmenter(BUNDLE, threads=2)
        segmenter.segment(FRAME)
        self.assertRegex(self.in_a_fork(lambda: segmenter.segment(FRAME)), "EngineError: .*load them after the fork")

        def anew():
            return np.array_equal(ldseg.Segmenter(BUNDLE, threads=2).segment(FRAME).labels, LABELS)

        self.assertEqual(self.in_a_fork(anew), "True")
        np.testing.assert_array_equal(segmenter.segment(FRAME).labels, LABELS)

    @unittest.skipUnless(hasattr(signal, "setitimer"), "no timer")
    def test_a_signal_arrives_between_steps(self):
        segmenter = ldseg.Segmenter(BUNDLE, threads=1)
        steps = []

        def interrupt(*_):
            steps.append("seen")
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with self.assertRaises(KeyboardInterrupt):
                # Hours of work: the interpreter by itself hands a signal over when the call has returned.
                result = segmenter.segment(FRAME, sampler="ddim", steps=999, samples=1000)
                self.fail(f"all {result.steps} steps were done")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        self.assertEqual(steps, ["seen"])
        np.testing.assert_array_equal(segmenter.segment(FRAME).labels, LABELS)


class Loading(unittest.TestCase):
    def test_what_cannot_be_loaded_is_a_python_exception(self):
        with self.assertRaisesRegex(OSError, "nowhere"):
            ldseg.Segmenter("nowhere")
        with self.assertRaisesRegex(ldseg.BundleError, "manifest.yaml"):
            ldseg.Segmenter(BUNDLE.parent)
        with self.assertRaisesRegex(ValueError, "expected one of tract, ort"):
            ldseg.Segmenter(BUNDLE, engine="steam")
        with self.assertRaisesRegex(ldseg.EngineError, "cuda"):
            ldseg.Segmenter(BUNDLE, device="cuda")
        with self.assertRaisesRegex(ValueError, "threads"):
            ldseg.Segmenter(BUNDLE, threads=0)

    def test_volumes_have_their_slowest_axis_first(self):
        segmenter = ldseg.Segmenter(VOLUMES, threads=1)
        volume = np.arange(9 * 10 * 11, dtype=np.uint16).reshape(9, 10, 11)
        result = segmenter.segment(volume, spacing=(2.0, 1.0, 1.0))
        self.assertEqual(result.labels.shape, (9, 10, 11))
        self.assertEqual(result.probabilities.shape, (len(segmenter.classes), 9, 10, 11))
        np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-4)
        self.assertIsNone(result.measurements)
        with self.assertRaisesRegex(ValueError, r"expected \[D, H, W\]"):
            segmenter.segment(volume[0])

    @unittest.skipUnless(os.environ.get("ORT_DYLIB_PATH"), "ORT_DYLIB_PATH is not set")
    def test_onnx_runtime_agrees(self):
        segmenter = ldseg.Segmenter(BUNDLE, engine="ort", ort_library=os.environ["ORT_DYLIB_PATH"])
        np.testing.assert_allclose(segmenter.segment(FRAME).probabilities, PROBABILITIES, atol=1e-3)


if __name__ == "__main__":
    unittest.main()
