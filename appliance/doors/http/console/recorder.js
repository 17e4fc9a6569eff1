// Records the microphone without loss: raw samples, no noise suppression, no gain control; they would be cloned too.
import { wav } from "./player.js";

export const canRecord = () => Boolean(window.isSecureContext && navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode);

export async function startRecording(onLevel) {
  const constraints = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: constraints });
  const context = new AudioContext();
  await context.audioWorklet.addModule("/console/capture.js");
  const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  const parts = [];
  let samples = 0;
  node.port.onmessage = ({ data }) => {
    parts.push(Int16Array.from(data, (value) => Math.max(-32768, Math.min(32767, Math.round(value * 32767)))));
    samples += data.length;
    onLevel(Math.sqrt(Math.max(...data.map(Math.abs))), samples / context.sampleRate);
  };
  context.createMediaStreamSource(stream).connect(node);
  return async () => {
    for (const track of stream.getTracks()) track.stop();
    const rate = context.sampleRate;
    await context.close();
    return wav(parts, rate);
  };
}
