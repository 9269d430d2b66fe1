//! `ldseg stream`, deadlines, warm starts and cohorts, with the echo model of this repository.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder, DynamicImage};
use serde_json::Value;

use crate::support::{Arguments, command, ldseg, repository};

const SIDE: usize = 224;

/// The example cine's frames as grey bytes.
fn frames(count: usize) -> Vec<Vec<u8>> {
    let file = fs::File::open(repository("models/examples/echo-phantom.gif")).unwrap();
    let decoder = GifDecoder::new(std::io::BufReader::new(file)).unwrap();
    let grey = |frame: image::ImageResult<image::Frame>| {
        DynamicImage::ImageRgba8(frame.unwrap().into_buffer()).to_luma8().into_raw()
    };
    decoder.into_frames().take(count).map(grey).collect()
}

/// Feeds `input` to `ldseg stream` and returns its exit code and both its outputs.
fn stream(arguments: &Arguments, input: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let bundle = repository("models/echo");
    let mut command = command("ldseg", &[&"stream", &"--bundle", &bundle, &"--threads", &"1"]);
    command.args(arguments.iter().map(AsRef::as_ref));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

fn lines(stdout: &[u8]) -> Vec<Value> {
    std::str::from_utf8(stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_stream_gives_what_the_segmented_cine_gives() {
    let temp = tempfile::tempdir().unwrap();
    let output = temp.path().join("maps");
    let raw = frames(4).concat();
    let size = format!("{SIDE}x{SIDE}");
    let measured: [&dyn AsRef<std::ffi::OsStr>; 9] =
        [&"--size", &size, &"--when-full", &"wait", &"--measure", &"--pixel-spacing", &"0.8", &"--output", &output];
    let (code, stdout, stderr) = stream(&measured, &raw);
    assert_eq!(code, Some(0), "{stderr}");
    let lines = lines(&stdout);
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[4]["end"]["answered"], 4);
    for (index, line) in lines[..4].iter().enumerate() {
        assert_eq!((line["frame"].as_u64(), line["dropped"].as_u64()), (Some(index as u64), Some(0)));
        assert!(line["left_ventricle"]["volume_ml"].as_f64().unwrap() > 10.0, "{line}");
        let expected = line["classes"][1]["expected_dice"].as_f64().unwrap();
        assert!((0.8..1.0).contains(&expected), "{line}");
    }

    // The same frames as one cine: a frame's noise depends on its index alone.
    let whole = temp.path().join("whole");
    ldseg(&[
        &"segment",
        &repository("models/examples/echo-phantom.gif"),
        &"--bundle",
        &repository("models/echo"),
        &"--output",
        &whole,
        &"--threads",
        &"1",
    ])
    .ok();
    let labels = ldseg_io::read_labels(&whole.join("echo-phantom.nii.gz")).unwrap();
    for index in 0..4 {
        let map = image::open(output.join(format!("frame{index:06}.png"))).unwrap().to_luma8().into_raw();
        let frame = labels.index_axis(ndarray::Axis(0), index);
        assert_eq!(map, frame.iter().copied().collect::<Vec<u8>>(), "frame {index}");
    }

    let (code, stdout, _) = stream(&[&"--size", &size, &"--when-full", &"wait", &"--raw-labels"], &raw);
    assert_eq!((code, stdout.len()), (Some(0), 4 * (8 + SIDE * SIDE)));
    assert_eq!(stdout[8 + SIDE * SIDE..][..8], 1u64.to_le_bytes());
}

#[test]
fn what_is_dropped_is_counted_and_a_cut_frame_is_told() {
    let mut raw = frames(24).concat();
    raw.extend([0; 100]);
    let (code, stdout, stderr) = stream(&[&"--size", &format!("{SIDE}x{SIDE}"), &"--queue", &"1"], &raw);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("ends 100 bytes into frame 24, expected 50176"), "{stderr}");
    let lines = lines(&stdout);
    let end = &lines[lines.len() - 1]["end"];
    let (answered, dropped) = (end["answered"].as_u64().unwrap(), end["dropped"].as_u64().unwrap());
    assert_eq!(answered + dropped, 24);
    let told: u64 = lines[..lines.len() - 1].iter().map(|line| line["dropped"].as_u64().unwrap()).sum();
    assert_eq!(told, dropped);
    assert_eq!(lines[lines.len() - 2]["frame"], 23, "the newest frame is never dropped");
}

#[test]
fn a_folder_is_watched_and_a_bad_file_is_one_failure() {
    let temp = tempfile::tempdir().unwrap();
    for (index, frame) in frames(2).into_iter().enumerate() {
        let path = temp.path().join(format!("f{index}.png"));
        image::save_buffer(path, &frame, SIDE as u32, SIDE as u32, image::ColorType::L8).unwrap();
    }
    fs::write(temp.path().join("f2.png"), "no picture").unwrap();
    let folder = temp.path().to_path_buf();
    let (code, stdout, stderr) = stream(&[&"--watch", &folder, &"--idle-seconds", &"0.3", &"--queue", &"10"], &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("f2.png"), "{stderr}");
    let lines = lines(&stdout);
    assert_eq!(
        (lines.len(), lines[3]["end"]["answered"].as_u64(), lines[3]["end"]["failed"].as_u64()),
        (4, Some(2), Some(1))
    );
    assert!(lines[2]["error"].as_str().unwrap().contains("f2.png"));
}

#[test]
fn label_maps_do_not_go_into_the_folder_that_is_watched() {
    let temp = tempfile::tempdir().unwrap();
    let watched = temp.path().join("watched");
    fs::create_dir(&watched).unwrap();
    let same = watched.join("..").join("watched");
    let arguments: [&dyn AsRef<std::ffi::OsStr>; 6] =
        [&"--watch", &watched, &"--idle-seconds", &"0.1", &"--output", &same];
    let (code, stdout, stderr) = stream(&arguments, &[]);
    assert_eq!((code, stdout.len()), (Some(2), 0), "{stderr}");
    assert!(stderr.contains("is the folder that is watched"), "{stderr}");
}

#[test]
fn a_deadline_takes_as_many_steps_as_fit_and_at_least_one() {
    let raw = frames(3).concat();
    let size = format!("{SIDE}x{SIDE}");
    let steps = |deadline: &str| {
        let common: [&dyn AsRef<std::ffi::OsStr>; 8] =
            [&"--size", &size, &"--when-full", &"wait", &"--sampler", &"ddim", &"--steps", &"6"];
        let mut arguments = common.to_vec();
        arguments.extend::<[&dyn AsRef<std::ffi::OsStr>; 2]>([&"--deadline-ms", &deadline]);
        let (code, stdout, stderr) = stream(&arguments, &raw);
        assert_eq!(code, Some(0), "{stderr}");
        let lines = lines(&stdout);
        lines[..3].iter().map(|line| (line["steps"].as_u64(), line["in_time"].as_bool())).collect::<Vec<_>>()
    };
    assert_eq!(steps("0.01"), [(Some(1), Some(false)); 3]);
    assert_eq!(steps("3000000"), [(Some(6), Some(true)); 3]);
}

/// Two starts of the same cine differ, and so do frames after the first only.
#[test]
fn a_warm_start_changes_the_frames_after_the_first() {
    let temp = tempfile::tempdir().unwrap();
    let segment = |start: &str| {
        let output = temp.path().join(start);
        ldseg(&[
            &"segment",
            &repository("models/examples/echo-phantom.gif"),
            &"--bundle",
            &repository("models/echo"),
            &"--output",
            &output,
            &"--threads",
            &"1",
            &"--warm-start",
            &start,
        ])
        .ok();
        ldseg_io::read_labels(&output.join("echo-phantom.nii.gz")).unwrap()
    };
    let (cold, warm) = (segment("off"), segment("0.5"));
    let frame = |labels: &ldseg::image::Labels, index| labels.index_axis(ndarray::Axis(0), index).to_owned();
    assert_eq!(frame(&cold, 0), frame(&warm, 0));
    assert_ne!(cold, warm);
}

#[test]
fn parts_share_out_the_inputs_and_what_is_done_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let images = temp.path().join("images");
    fs::create_dir(&images).unwrap();
    for (index, frame) in frames(3).into_iter().enumerate() {
        let path = images.join(format!("f{index}.png"));
        image::save_buffer(path, &frame, SIDE as u32, SIDE as u32, image::ColorType::L8).unwrap();
    }
    let output = temp.path().join("out");
    let part = |id: &str| {
        let document = ldseg(&[
            &"segment",
            &images,
            &"--bundle",
            &repository("models/echo"),
            &"--output",
            &output,
            &"--json",
            &"--part-id",
            &id,
            &"--num-parts",
            &"2",
            &"--skip-done",
        ])
        .ok();
        serde_json::from_str::<Value>(&document).unwrap()["files"].as_array().unwrap().clone()
    };
    assert_eq!((part("0").len(), part("1").len()), (2, 1));
    let modified = |name: &str| fs::metadata(output.join(name)).unwrap().modified().unwrap();
    let before = modified("f0.png");
    fs::remove_file(output.join("f2.json")).unwrap();
    thread::sleep(Duration::from_millis(20));
    let again = part("0");
    assert_eq!((again[0]["skipped"].as_bool(), again[1]["skipped"].as_bool()), (Some(true), None), "{again:?}");
    assert_eq!(modified("f0.png"), before);
    assert!(output.join("f2.json").is_file());
    let wrong = ldseg(&[
        &"segment",
        &images,
        &"--bundle",
        &repository("models/echo"),
        &"--output",
        &output,
        &"--part-id",
        &"2",
        &"--num-parts",
        &"2",
    ]);
    assert_eq!(wrong.code, Some(2));
}

/// Waits for a command to end, for a minute at most.
fn ends(child: &mut std::process::Child) -> bool {
    (0..6000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        child.try_wait().unwrap().is_some()
    })
}

#[test]
fn a_stream_that_nobody_reads_ends() {
    let bundle = repository("models/echo");
    let frame = frames(1).remove(0);
    for labels in [&["--raw-labels"][..], &[]] {
        let mut command = command("ldseg", &[&"stream", &"--bundle", &bundle, &"--threads", &"1"]);
        command.args(["--size", "224x224", "--when-full", "wait"]).args(labels);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        drop(child.stdout.take());
        // Standard input stays open: it is not its end that ends the command.
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(&frame);
        let ended = ends(&mut child);
        let _ = child.kill();
        assert!(ended, "{labels:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_written_slowly_or_anew_or_oddly_named_is_answered() {
    use std::os::unix::ffi::OsStrExt;
    let temp = tempfile::tempdir().unwrap();
    let picture = |n: usize| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let (pixels, side) = (&frames(2)[n], SIDE as u32);
        image::write_buffer_with_format(&mut bytes, pixels, side, side, image::ColorType::L8, image::ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    };
    let (first, second) = (picture(0), picture(1));
    let folder = temp.path().join("in");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(std::ffi::OsStr::from_bytes(b"odd\xff.png")), &first).unwrap();
    let (code, stdout, stderr) = thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::create(folder.join("slow.png")).unwrap();
            file.write_all(&first[..first.len() / 2]).unwrap();
            thread::sleep(Duration::from_millis(400));
            file.write_all(&first[first.len() / 2..]).unwrap();
            thread::sleep(Duration::from_millis(1500));
            fs::write(folder.join("slow.png"), &second).unwrap();
        });
        stream(&[&"--watch", &folder, &"--idle-seconds", &"3", &"--queue", &"10"], &[])
    });
    assert_eq!(code, Some(0), "{stderr}");
    let lines = lines(&stdout);
    let answered: Vec<_> = lines[..lines.len() - 1].iter().map(|line| line["file"].as_str().unwrap()).collect();
    assert!(answered.contains(&folder.join("odd\u{FFFD}.png").to_str().unwrap()), "{answered:?}");
    assert_eq!(answered.iter().filter(|file| file.ends_with("slow.png")).count(), 2, "{answered:?}");
    let mut frames: Vec<_> = lines[..lines.len() - 1].iter().map(|line| line["frame"].as_u64().unwrap()).collect();
    frames.sort_unstable();
    assert_eq!(frames, [0, 1, 2]);
}
