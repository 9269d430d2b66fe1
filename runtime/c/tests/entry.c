/* One frame through the C interface: entry BUNDLE PIXELS FORMAT HEIGHT WIDTH SPACING_Y SPACING_X LABELS. Writes the label
 * map as bytes; prints what was measured, one chamber a line, then the notes, one a line. */
#include <ldseg.h>
#include <stdio.h>
#include <stdlib.h>

static void print(const char *name, int measured, LdsegChamber chamber)
{
    if (measured)
        printf("%s %.17g %.17g %.17g\n", name, chamber.area_cm2, chamber.long_axis_mm, chamber.volume_ml);
}

int main(int argc, char **argv)
{
    LdsegSegmenter *segmenter = NULL;
    LdsegSegmentation *segmentation = NULL;
    LdsegFrame frame = {0};
    LdsegView view;
    FILE *file;
    size_t size;
    void *pixels;

    if (argc != 9)
        return 2;
    frame.format = (uint32_t)atoi(argv[3]);
    frame.height = (size_t)atol(argv[4]);
    frame.width = (size_t)atol(argv[5]);
    frame.spacing_y = atof(argv[6]);
    frame.spacing_x = atof(argv[7]);
    size = frame.height * frame.width * (frame.format == LDSEG_RGB_U8 ? 3 : frame.format == LDSEG_GREY_F32 ? 4 : 1);
    pixels = malloc(size);
    file = fopen(argv[2], "rb");
    if (pixels == NULL || file == NULL || fread(pixels, 1, size, file) != size)
        return 3;
    fclose(file);
    frame.pixels = pixels;
    if (ldseg_open(argv[1], NULL, &segmenter) != LDSEG_STATUS_OK ||
        ldseg_segment(segmenter, &frame, NULL, &segmentation) != LDSEG_STATUS_OK ||
        ldseg_view(segmentation, &view) != LDSEG_STATUS_OK) {
        fprintf(stderr, "%s\n", ldseg_last_error());
        return 1;
    }
    file = fopen(argv[8], "wb");
    if (file == NULL || fwrite(view.labels, 1, view.height * view.width, file) != view.height * view.width)
        return 3;
    fclose(file);
    print("left_ventricle", view.measured, view.ventricle);
    print("left_atrium", view.atrium_measured, view.atrium);
    for (size_t i = 0; i < view.note_count; i++)
        printf("note %s\n", view.notes[i]);
    ldseg_segmentation_free(segmentation);
    ldseg_close(segmenter);
    free(pixels);
    return 0;
}
