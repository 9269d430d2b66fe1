/* What a C program may do, rightly or wrongly: check BUNDLE ENGINE, a 2-D bundle of grey images. Silent where all is
 * well. */
#include <ldseg.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEIGHT = 20, WIDTH = 24, PIXELS = HEIGHT * WIDTH, THREADS = 2 };

static const char *bundle, *engine;
static uint8_t grey[PIXELS];

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition, ldseg_last_error());        \
            exit(EXIT_FAILURE);                                                                                        \
        }                                                                                                              \
    } while (0)

static LdsegSegmenter *open_bundle(void)
{
    LdsegOpenOptions options = {0};
    LdsegSegmenter *segmenter = NULL;
    options.engine = engine;
    options.threads = 1;
    CHECK(ldseg_open(bundle, &options, &segmenter) == LDSEG_STATUS_OK && segmenter != NULL);
    return segmenter;
}

static LdsegFrame frame_of(const void *pixels, uint32_t format)
{
    LdsegFrame frame = {0};
    frame.pixels = pixels;
    frame.format = format;
    frame.height = HEIGHT;
    frame.width = WIDTH;
    return frame;
}

/* The labels of one frame, to be freed. */
static uint8_t *labels_of(const LdsegSegmenter *segmenter, LdsegFrame frame, uint64_t seed)
{
    LdsegSegmentOptions options = {0};
    LdsegSegmentation *segmentation = NULL;
    LdsegView view;
    uint8_t *labels = malloc(PIXELS);
    options.sampler = "ddim";
    options.steps = 2;
    options.samples = 2;
    options.seed = seed;
    CHECK(labels != NULL);
    CHECK(ldseg_segment(segmenter, &frame, &options, &segmentation) == LDSEG_STATUS_OK);
    CHECK(ldseg_view(segmentation, &view) == LDSEG_STATUS_OK);
    CHECK(view.height == HEIGHT && view.width == WIDTH && view.classes == ldseg_class_count(segmenter));
    CHECK(view.steps == 2 && view.timings.denoiser > 0.0 && !view.measured);
    for (size_t i = 0; i < PIXELS; i++) {
        double sum = 0.0;
        CHECK(view.labels[i] < view.classes && view.uncertainty[i] >= 0.0f && view.uncertainty[i] <= 1.0f);
        for (size_t class = 0; class < view.classes; class++) {
            float probability = view.probabilities[class * PIXELS + i];
            CHECK(probability <= view.probabilities[view.labels[i] * PIXELS + i]);
            sum += probability;
        }
        CHECK(fabs(sum - 1.0) < 1e-4);
    }
    memcpy(labels, view.labels, PIXELS);
    ldseg_segmentation_free(segmentation);
    return labels;
}

static void same_labels(const LdsegSegmenter *segmenter, LdsegFrame frame, const uint8_t *expected)
{
    uint8_t *labels = labels_of(segmenter, frame, 0);
    CHECK(memcmp(labels, expected, PIXELS) == 0);
    free(labels);
}

/* The same picture in every format, with and without gaps between its rows. */
static void check_formats(const LdsegSegmenter *segmenter)
{
    enum { STRIDE = 3 * WIDTH + 5 };
    uint8_t *expected = labels_of(segmenter, frame_of(grey, LDSEG_GREY_U8), 0);
    /* No more than is read: the last row ends with its last pixel. */
    size_t size = STRIDE * (HEIGHT - 1) + 3 * WIDTH;
    uint8_t *padded = malloc(size), *real = malloc(4 * PIXELS + 1);
    LdsegFrame frame;
    CHECK(padded != NULL && real != NULL);

    memset(padded, 255, size);
    for (size_t y = 0; y < HEIGHT; y++)
        for (size_t x = 0; x < WIDTH; x++)
            memset(padded + y * STRIDE + 3 * x, grey[y * WIDTH + x], 3);
    frame = frame_of(padded, LDSEG_RGB_U8);
    frame.stride = STRIDE;
    same_labels(segmenter, frame, expected);

    for (size_t y = 0; y < HEIGHT; y++)
        memcpy(padded + y * STRIDE, grey + y * WIDTH, WIDTH);
    frame = frame_of(padded, LDSEG_GREY_U8);
    frame.stride = STRIDE;
    same_labels(segmenter, frame, expected);

    for (size_t i = 0; i < PIXELS; i++) {
        float value = grey[i];
        memcpy(real + 1 + 4 * i, &value, 4);
    }
    same_labels(segmenter, frame_of(real + 1, LDSEG_GREY_F32), expected);
    free(padded);
    free(real);
    free(expected);
}

static LdsegStatus status_of(const LdsegSegmenter *segmenter, LdsegFrame frame, const char *sampler, size_t steps)
{
    LdsegSegmentOptions options = {0};
    LdsegSegmentation *segmentation = (LdsegSegmentation *)&options;
    LdsegStatus status;
    options.sampler = sampler;
    options.steps = steps;
    status = ldseg_segment(segmenter, &frame, &options, &segmentation);
    CHECK(status != LDSEG_STATUS_OK && segmentation == NULL && strlen(ldseg_last_error()) > 0);
    return status;
}

static void check_refusals(const LdsegSegmenter *segmenter)
{
    const LdsegFrame frame = frame_of(grey, LDSEG_GREY_U8);
    LdsegOpenOptions options = {0};
    LdsegSegmenter *opened = NULL;
    LdsegSegmentation *segmentation = NULL, *coloured = NULL;
    LdsegFrame other;
    LdsegClass class;
    LdsegView view;
    float infinite = INFINITY;

    CHECK(ldseg_open(NULL, NULL, &opened) == LDSEG_STATUS_NULL_POINTER);
    CHECK(strcmp(ldseg_last_error(), "bundle is NULL") == 0);
    CHECK(ldseg_open(bundle, NULL, NULL) == LDSEG_STATUS_NULL_POINTER);
    CHECK(ldseg_open("nowhere", NULL, &opened) == LDSEG_STATUS_IO && opened == NULL);
    CHECK(strstr(ldseg_last_error(), "nowhere") != NULL);
    CHECK(ldseg_open("\xff", NULL, &opened) == LDSEG_STATUS_BAD_ARGUMENT);
    options.engine = "steam";
    CHECK(ldseg_open(bundle, &options, &opened) == LDSEG_STATUS_SETTING);
    options.engine = engine;
    options.device = "cuda";
    CHECK(ldseg_open(bundle, &options, &opened) == LDSEG_STATUS_ENGINE);
    options.device = NULL;
    options.threads = 1000000;
    CHECK(ldseg_open(bundle, &options, &opened) == LDSEG_STATUS_SETTING && opened == NULL);

    CHECK(ldseg_segment(NULL, &frame, NULL, &segmentation) == LDSEG_STATUS_NULL_POINTER);
    CHECK(ldseg_segment(segmenter, NULL, NULL, &segmentation) == LDSEG_STATUS_NULL_POINTER);
    CHECK(ldseg_segment(segmenter, &frame, NULL, NULL) == LDSEG_STATUS_NULL_POINTER);
    CHECK(status_of(segmenter, frame_of(NULL, LDSEG_GREY_U8), NULL, 0) == LDSEG_STATUS_NULL_POINTER);
    CHECK(status_of(segmenter, frame_of(grey, 7), NULL, 0) == LDSEG_STATUS_BAD_ARGUMENT);
    CHECK(status_of(segmenter, frame, "magic", 0) == LDSEG_STATUS_SETTING);
    CHECK(status_of(segmenter, frame, "ddim", 1000000) == LDSEG_STATUS_SETTING);
    other = frame;
    other.height = 0;
    CHECK(status_of(segmenter, other, NULL, 0) == LDSEG_STATUS_BAD_ARGUMENT);
    other = frame;
    other.stride = WIDTH - 1;
    CHECK(status_of(segmenter, other, NULL, 0) == LDSEG_STATUS_BAD_ARGUMENT);
    other = frame;
    other.spacing_y = 0.5;
    CHECK(status_of(segmenter, other, NULL, 0) == LDSEG_STATUS_SETTING);
    other = frame_of(&infinite, LDSEG_GREY_F32);
    other.height = other.width = 1;
    CHECK(status_of(segmenter, other, NULL, 0) == LDSEG_STATUS_FORMAT);
    other = frame_of("colourful", LDSEG_RGB_U8);
    other.height = 1;
    other.width = 3;
    CHECK(ldseg_segment(segmenter, &other, NULL, &coloured) == LDSEG_STATUS_OK);
    CHECK(ldseg_view(coloured, &view) == LDSEG_STATUS_OK && view.note_count == 2);
    CHECK(strcmp(view.notes[0], "is in colour, and its luminance is taken") == 0);
    CHECK(strcmp(view.notes[1], "is not measured: its pixel spacing is not known") == 0);
    ldseg_segmentation_free(coloured);

    CHECK(ldseg_class_count(NULL) == 0);
    CHECK(ldseg_class(segmenter, 0, &class) == LDSEG_STATUS_OK && strcmp(class.name, "background") == 0);
    CHECK(ldseg_class(segmenter, ldseg_class_count(segmenter), &class) == LDSEG_STATUS_BAD_ARGUMENT);
    CHECK(ldseg_class(NULL, 0, &class) == LDSEG_STATUS_NULL_POINTER);
    CHECK(ldseg_class(segmenter, 0, NULL) == LDSEG_STATUS_NULL_POINTER);
    CHECK(ldseg_view(NULL, &view) == LDSEG_STATUS_NULL_POINTER);
    ldseg_segmentation_free(NULL);
    ldseg_close(NULL);
}

/* The uncertainty of all pixels together. */
static double uncertainty_of(const LdsegSegmenter *segmenter, uint64_t seed)
{
    LdsegFrame frame = frame_of(grey, LDSEG_GREY_U8);
    LdsegSegmentOptions options = {0};
    LdsegSegmentation *segmentation = NULL;
    LdsegView view;
    double sum = 0.0;
    options.sampler = "ddim";
    options.steps = 2;
    options.seed = seed;
    CHECK(ldseg_segment(segmenter, &frame, &options, &segmentation) == LDSEG_STATUS_OK);
    CHECK(ldseg_view(segmentation, &view) == LDSEG_STATUS_OK);
    for (size_t i = 0; i < PIXELS; i++)
        sum += view.uncertainty[i];
    ldseg_segmentation_free(segmentation);
    return sum;
}

struct work {
    const LdsegSegmenter *segmenter;
    uint64_t seed;
    uint8_t *labels;
};

static void *work(void *argument)
{
    struct work *work = argument;
    LdsegSegmenter *own = work->segmenter == NULL ? open_bundle() : NULL;
    CHECK(strcmp(ldseg_last_error(), "") == 0); /* that of another thread is not seen */
    work->labels = labels_of(own == NULL ? work->segmenter : own, frame_of(grey, LDSEG_GREY_U8), work->seed);
    ldseg_close(own);
    return NULL;
}

/* Threads at once, each with a seed of its own: on one segmenter, or, where it is NULL, on one of their own. */
static void check_threads(const LdsegSegmenter *alone, const LdsegSegmenter *shared)
{
    pthread_t threads[THREADS];
    struct work all[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        all[i].segmenter = shared;
        all[i].seed = i;
        CHECK(pthread_create(&threads[i], NULL, work, &all[i]) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        uint8_t *expected = labels_of(alone, frame_of(grey, LDSEG_GREY_U8), i);
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(memcmp(all[i].labels, expected, PIXELS) == 0);
        free(expected);
    }
    /* Each seed has its own noise. */
    CHECK(uncertainty_of(alone, 0) != uncertainty_of(alone, 1));
    for (size_t i = 0; i < THREADS; i++)
        free(all[i].labels);
}

/* A segmentation outlives its segmenter. */
static void check_lifetimes(void)
{
    const LdsegFrame frame = frame_of(grey, LDSEG_GREY_U8);
    LdsegSegmenter *segmenter = open_bundle();
    LdsegSegmentation *segmentation = NULL;
    LdsegView view;
    size_t sum = 0;
    CHECK(ldseg_segment(segmenter, &frame, NULL, &segmentation) == LDSEG_STATUS_OK);
    ldseg_close(segmenter);
    CHECK(ldseg_view(segmentation, &view) == LDSEG_STATUS_OK);
    for (size_t i = 0; i < PIXELS; i++)
        sum += view.labels[i];
    CHECK(sum <= PIXELS * view.classes);
    ldseg_segmentation_free(segmentation);
}

int main(int argc, char **argv)
{
    LdsegSegmenter *segmenter;
    if (argc != 3)
        return 2;
    bundle = argv[1];
    engine = argv[2];
    for (size_t i = 0; i < PIXELS; i++)
        grey[i] = (uint8_t)(i * i / 7 % 251);
    CHECK(strlen(ldseg_version()) >= 5 && strcmp(ldseg_last_error(), "") == 0);
    segmenter = open_bundle();
    check_formats(segmenter);
    check_refusals(segmenter);
    check_threads(segmenter, segmenter);
    check_threads(segmenter, NULL);
    check_lifetimes();
    ldseg_close(segmenter);
    return EXIT_SUCCESS;
}
