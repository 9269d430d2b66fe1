// ldseg: segments medical images by diffusion in a latent space.
//
// Memory: what ldseg_open and ldseg_segment store is the caller's to end with ldseg_close and ldseg_segmentation_free.
// Arguments belong to the caller, and no call keeps a pointer to them.
//
// Threads: any thread may use any handle. Calls on one segmenter wait for each other; calls on different segmenters run
// side by side. A handle may be ended only while no other call uses it.
//
// Errors: a call that can fail returns a status; ldseg_last_error has the message for the thread that made the call. No
// panic of the library crosses into the caller's code.
//
// Made by cbindgen from the library's source: not to be edited.

#ifndef LDSEG_H
#define LDSEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// `LdsegFrame.format`: one byte a pixel, grey.
#define LDSEG_GREY_U8 0

// `LdsegFrame.format`: three bytes a pixel, red, green and blue.
#define LDSEG_RGB_U8 1

// `LdsegFrame.format`: one float a pixel, grey, of any range, finite; need not be aligned.
#define LDSEG_GREY_F32 2

// How a call ended.
typedef enum {
  // All went well.
  LDSEG_STATUS_OK = 0,
  // A file or folder could not be read.
  LDSEG_STATUS_IO = 1,
  // A file's content, or a pixel's value, is not what is asked for.
  LDSEG_STATUS_FORMAT = 2,
  // The frame has other axes or channels than the bundle's images.
  LDSEG_STATUS_SHAPE_MISMATCH = 3,
  // The bundle is incomplete, altered or of an unknown version.
  LDSEG_STATUS_BUNDLE = 4,
  // The engine could not load or run a network, or the device is not there.
  LDSEG_STATUS_ENGINE = 5,
  // A setting is out of its range.
  LDSEG_STATUS_SETTING = 6,
  // A pointer is NULL that must not be.
  LDSEG_STATUS_NULL_POINTER = 7,
  // An argument makes no sense: a frame's size, stride or format, an index, a string that is not UTF-8.
  LDSEG_STATUS_BAD_ARGUMENT = 8,
  // A fault of this library. The segmenter it happened to answers every further call with this; others are not
  // concerned.
  LDSEG_STATUS_PANIC = 9,
  // None of the above.
  LDSEG_STATUS_OTHER = 10,
} LdsegStatus;

// One frame's segmentation.
typedef struct LdsegSegmentation LdsegSegmentation;

// A loaded bundle, ready to segment.
typedef struct LdsegSegmenter LdsegSegmenter;

// How to run a bundle's networks. All zeros are the defaults.
typedef struct {
  // "tract" or "ort"; NULL: the first one that the library was built with.
  const char *engine;
  // "cpu", "cuda", "tensorrt", "openvino" or "xnnpack"; NULL: "cpu". All others need engine "ort".
  const char *device;
  // CPU threads; 0: one for each core.
  size_t threads;
  // Path of libonnxruntime for engine "ort", UTF-8. NULL: what ORT_DYLIB_PATH names, else the one beside the
  // executable.
  const char *ort_library;
} LdsegOpenOptions;

// A class of the bundle.
typedef struct {
  // Its name, UTF-8; valid until the segmenter is closed.
  const char *name;
  // Red, green and blue, to draw it in.
  uint8_t colour[3];
} LdsegClass;

// An image in the caller's memory, rows from top to bottom.
typedef struct {
  // The first row's first pixel.
  const void *pixels;
  // `LDSEG_GREY_U8`, `LDSEG_RGB_U8` or `LDSEG_GREY_F32`.
  uint32_t format;
  // Rows, at least 1.
  size_t height;
  // Pixels in a row, at least 1.
  size_t width;
  // Bytes from one row to the next, at least a row's; 0: rows follow one another without a gap.
  size_t stride;
  // Height of a pixel in mm; 0 where it is not known, for both: nothing is measured then, and a bundle
  // that resamples to mm refuses the frame.
  double spacing_y;
  // Width of a pixel in mm.
  double spacing_x;
} LdsegFrame;

// What to do with one frame. All zeros are the defaults.
typedef struct {
  // "direct", "ddim", "ddpm" or "dpm++"; NULL: the bundle's.
  const char *sampler;
  // Denoiser calls; 0: the bundle's number, or what fits another sampler.
  size_t steps;
  // Samples whose probabilities are averaged; 0: 1.
  size_t samples;
  // Seed of all noise.
  uint64_t seed;
  // Index of the frame in a cine, 0 for a still: every frame has noise of its own.
  uint64_t frame;
} LdsegSegmentOptions;

// Wall-clock time of each stage in seconds.
typedef struct {
  // Normalising and resampling the frame.
  double preprocess;
  // The image encoder.
  double image_encoder;
  // The sampler loop, all denoiser calls.
  double denoiser;
  // The label decoder, all samples.
  double label_decoder;
  // Resampling the probabilities, labels and uncertainty.
  double postprocess;
} LdsegTimings;

// A chamber of the heart in one frame, by the method of discs in this plane alone.
typedef struct {
  // Area of the cavity.
  double area_cm2;
  // From the middle of the mitral plane to the apex, or to the atrium's opposite wall.
  double long_axis_mm;
  // Volume of the cavity.
  double volume_ml;
  // Lower and upper end of the interval about `area_cm2`; meaningful where the view's `interval_level` is above 0.
  double area_cm2_interval[2];
  // The same about `long_axis_mm`.
  double long_axis_mm_interval[2];
  // The same about `volume_ml`.
  double volume_ml_interval[2];
} LdsegChamber;

// What a segmentation holds, in the frame's own grid, row after row without gaps.
typedef struct {
  // Rows.
  size_t height;
  // Pixels in a row.
  size_t width;
  // Number of classes.
  size_t classes;
  // `height` x `width`: the index of the most probable class.
  const uint8_t *labels;
  // `classes` x `height` x `width`, 0 to 1: the class probabilities, averaged over the samples.
  const float *probabilities;
  // `height` x `width`, 0 to 1: the entropy of the averaged probabilities over its maximum.
  const float *uncertainty;
  // Denoiser calls of a sample.
  size_t steps;
  // Where the time went.
  LdsegTimings timings;
  // How far the frame lies from what the bundle was trained on: about 1 is usual. 0 where the bundle does not tell.
  double kind_score;
  // Whether `kind_score` is beyond the bundle's threshold: nothing is measured then, and a note says so.
  bool of_another_kind;
  // Probability with which each interval about a measurement holds the true value, at least; 0 where the bundle gives
  // no intervals for these settings. An interval of zeros is none.
  double interval_level;
  // Whether `ventricle` holds measurements. It does not where the bundle declares no measures of the left heart, the
  // frame's spacing is not known, the frame is of another kind than the bundle was trained on, or the label map shows no
  // ventricle with a mitral plane.
  bool measured;
  // The left ventricle; all zeros where it was not measured.
  LdsegChamber ventricle;
  // The same for `atrium`, which has to border on the ventricle.
  bool atrium_measured;
  // The left atrium; all zeros where it was not measured.
  LdsegChamber atrium;
  // Number of notes.
  size_t note_count;
  // `note_count` strings, UTF-8: what was not taken as it is, such as the luminance of a colour frame by a bundle of
  // grey images.
  const char *const *notes;
} LdsegView;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Loads the bundle in the folder `bundle`, UTF-8, and stores a segmenter that `ldseg_close` ends. `options` may be
// NULL: all defaults.
//
// # Safety
// Pointers are NULL or valid for what they point to, strings end with a zero.
LdsegStatus ldseg_open(const char *bundle, const LdsegOpenOptions *options, LdsegSegmenter **segmenter);

// Ends a segmenter; NULL is allowed. Its class names are gone then, its segmentations stay. No other call may be using
// it.
//
// # Safety
// `segmenter` is NULL or came from `ldseg_open`, and is not used again.
void ldseg_close(LdsegSegmenter *segmenter);

// Number of classes, background included; 0 for NULL.
//
// # Safety
// `segmenter` is NULL or came from `ldseg_open`.
size_t ldseg_class_count(const LdsegSegmenter *segmenter);

// Name and colour of class `index`, counted from 0, the background.
//
// # Safety
// `segmenter` is NULL or came from `ldseg_open`; `out` is NULL or a place for a class.
LdsegStatus ldseg_class(const LdsegSegmenter *segmenter, size_t index, LdsegClass *out);

// Segments one frame, and stores a segmentation that `ldseg_segmentation_free` frees. The same frame, options and
// engine give the same answer, bit by bit. `options` may be NULL: all defaults. The pixels are not used after the call.
//
// # Safety
// Pointers are NULL or valid for what they point to, the pixels for all rows; `segmenter` came from `ldseg_open`.
LdsegStatus ldseg_segment(const LdsegSegmenter *segmenter,
                          const LdsegFrame *frame,
                          const LdsegSegmentOptions *options,
                          LdsegSegmentation **segmentation);

// Shows what a segmentation holds. The pointers stay valid until it is freed.
//
// # Safety
// `segmentation` is NULL or came from `ldseg_segment`; `out` is NULL or a place for a view.
LdsegStatus ldseg_view(const LdsegSegmentation *segmentation, LdsegView *out);

// Frees a segmentation; NULL is allowed.
//
// # Safety
// `segmentation` is NULL or came from `ldseg_segment`, and neither it nor its view is used again.
void ldseg_segmentation_free(LdsegSegmentation *segmentation);

// What went wrong in the last call of this thread that returned another status than `LDSEG_STATUS_OK`, UTF-8; empty
// before the first. Valid until the thread's next such call.
const char *ldseg_last_error(void);

// The library's version, such as "0.1.0".
const char *ldseg_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LDSEG_H */
