/* Segments a grey picture: segment BUNDLE IMAGE.pgm LABELS.pgm [PIXEL_SPACING_MM]
 *
 * IMAGE.pgm is a binary PGM (P5) of 8 bits. LABELS.pgm gets the class index of each pixel. Prints each class with the
 * number of its pixels, and what the left ventricle and atrium measure.
 *
 *     cc examples/segment.c -Iruntime/c/include -Ltarget/release -lldseg_c -o segment
 */
#include <ldseg.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "error: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

/* The pixels of a PGM without comments, to be freed; NULL where it is none. */
static uint8_t *read_pgm(const char *path, size_t *height, size_t *width)
{
    FILE *file = fopen(path, "rb");
    uint8_t *pixels = NULL;
    unsigned w, h, most;
    if (file == NULL)
        return NULL;
    if (fscanf(file, "P5 %u %u %u", &w, &h, &most) == 3 && fgetc(file) != EOF && most == 255 && w > 0 && h > 0 &&
        w <= 16384 && h <= 16384) {
        *width = w;
        *height = h;
        pixels = malloc((size_t)w * h);
        if (pixels != NULL && fread(pixels, w, h, file) != h) {
            free(pixels);
            pixels = NULL;
        }
    }
    fclose(file);
    return pixels;
}

static int write_pgm(const char *path, const uint8_t *pixels, size_t height, size_t width)
{
    FILE *file = fopen(path, "wb");
    int written;
    if (file == NULL)
        return 0;
    written = fprintf(file, "P5\n%zu %zu\n255\n", width, height) > 0 && fwrite(pixels, width, height, file) == height;
    return fclose(file) == 0 && written;
}

static void print(const LdsegSegmenter *segmenter, const LdsegView *view)
{
    const LdsegTimings *t = &view->timings;
    size_t voxels = view->height * view->width;
    double uncertainty = 0.0;
    for (size_t class = 0; class < view->classes; class++) {
        LdsegClass about;
        size_t count = 0;
        if (ldseg_class(segmenter, class, &about) != LDSEG_STATUS_OK)
            continue;
        for (size_t i = 0; i < voxels; i++)
            count += view->labels[i] == class;
        printf("%s (#%02x%02x%02x): %zu pixels\n", about.name, about.colour[0], about.colour[1], about.colour[2],
               count);
    }
    for (size_t i = 0; i < voxels; i++)
        uncertainty += view->uncertainty[i];
    printf("mean uncertainty: %.6f\n", uncertainty / (double)voxels);
    if (view->measured)
        printf("left ventricle: %.3f cm2, long axis %.3f mm, volume %.3f ml\n", view->ventricle.area_cm2,
               view->ventricle.long_axis_mm, view->ventricle.volume_ml);
    if (view->atrium_measured)
        printf("left atrium: %.3f cm2, long axis %.3f mm, volume %.3f ml\n", view->atrium.area_cm2,
               view->atrium.long_axis_mm, view->atrium.volume_ml);
    for (size_t i = 0; i < view->note_count; i++)
        fprintf(stderr, "note: the frame %s\n", view->notes[i]);
    fprintf(stderr, "%zu step(s) in %.0f ms\n", view->steps,
            1e3 * (t->preprocess + t->image_encoder + t->denoiser + t->label_decoder + t->postprocess));
}

int main(int argc, char **argv)
{
    LdsegSegmenter *segmenter = NULL;
    LdsegSegmentation *segmentation = NULL;
    LdsegFrame frame = {0};
    LdsegView view;
    uint8_t *pixels;
    int code = EXIT_SUCCESS;

    if (argc < 4 || argc > 5)
        return fail(argv[0], "expected BUNDLE IMAGE.pgm LABELS.pgm [PIXEL_SPACING_MM]");
    pixels = read_pgm(argv[2], &frame.height, &frame.width);
    if (pixels == NULL)
        return fail(argv[2], "is not a readable PGM of 8 bits");
    frame.pixels = pixels;
    frame.format = LDSEG_GREY_U8;
    if (argc == 5)
        frame.spacing_y = frame.spacing_x = atof(argv[4]);

    if (ldseg_open(argv[1], NULL, &segmenter) != LDSEG_STATUS_OK ||
        ldseg_segment(segmenter, &frame, NULL, &segmentation) != LDSEG_STATUS_OK ||
        ldseg_view(segmentation, &view) != LDSEG_STATUS_OK)
        code = fail(argv[2], ldseg_last_error());
    else if (!write_pgm(argv[3], view.labels, view.height, view.width))
        code = fail(argv[3], "cannot be written");
    else
        print(segmenter, &view);

    ldseg_segmentation_free(segmentation);
    ldseg_close(segmenter);
    free(pixels);
    return code;
}
