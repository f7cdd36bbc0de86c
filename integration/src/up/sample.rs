//! The sample: a Deployment and a Service, applied by kubectl and proven to answer.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::UpError;
use crate::stages::Stages;

const MANIFEST: &str = include_str!("../../sample/web.yaml");
/// How long the sample may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn kubectl(kubeconfig: &Path, args: &[&str], input: Option<&str>) -> Result<String, UpError> {
    let failed = |why: String| UpError::Sample(format!("kubectl {}: {why}", args.join(" ")));
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(args)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("{e}; is kubectl installed? (apt-get install kubernetes-client)")))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes()).map_err(|e| failed(e.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Applies it, waits for the rollout, asks it from the host and, by name, from another pod.
pub(super) fn run(kubeconfig: &Path, stages: &mut Stages) -> Result<(), UpError> {
    stages.begin("deploying the sample");
    kubectl(kubeconfig, &["apply", "-f", "-"], Some(MANIFEST))?;
    kubectl(kubeconfig, &["rollout", "status", "deployment/web", "--timeout=60s"], None)?;
    stages.done("sample deployed: deployment/web with 3 pods, service/web");

    stages.begin("asking the sample");
    let address = kubectl(kubeconfig, &["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"], None)?;
    let answer = ask(&address)?;
    stages.done(&format!("http://{address} (the Service's cluster IP) answered from the host: {answer}"));

    stages.begin("asking the sample from a pod");
    let answer = from_a_pod(kubeconfig)?;
    stages.done(&format!("http://web (its DNS name) answered from another pod: {answer}"));
    Ok(())
}

/// One GET, again until it answers.
fn ask(address: &str) -> Result<String, UpError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let output =
            Command::new("curl").args(["-sS", "--max-time", "2", &format!("http://{address}/")]).output();
        let output = output.map_err(|e| UpError::Sample(format!("curl: {e}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        if Instant::now() > until {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(UpError::Sample(format!("http://{address} does not answer: {why}")));
        }
    }
}

fn from_a_pod(kubeconfig: &Path) -> Result<String, UpError> {
    let delete = ["delete", "pod", "troupe-probe", "--ignore-not-found", "--grace-period=0", "--force"];
    kubectl(kubeconfig, &delete, None)?;
    let run = [
        "run",
        "troupe-probe",
        "--image=troupe/sample:1",
        "--image-pull-policy=IfNotPresent",
        "--restart=Never",
        "--",
        "wget",
        "-qO-",
        "http://web",
    ];
    kubectl(kubeconfig, &run, None)?;
    let phase = "jsonpath={.status.phase}";
    let until = Instant::now() + PATIENCE;
    let answer = loop {
        match kubectl(kubeconfig, &["get", "pod", "troupe-probe", "-o", phase], None)?.as_str() {
            "Succeeded" => break kubectl(kubeconfig, &["logs", "troupe-probe"], None)?,
            "Failed" => {
                let why = kubectl(kubeconfig, &["logs", "troupe-probe"], None)?;
                return Err(UpError::Sample(format!("http://web does not answer from a pod: {why}")));
            }
            _ if Instant::now() > until => {
                let events = kubectl(kubeconfig, &["describe", "pod", "troupe-probe"], None)?;
                return Err(UpError::Sample(format!("the probing pod does not finish:\n{events}")));
            }
            _ => {}
        }
    };
    kubectl(kubeconfig, &delete, None)?;
    Ok(answer)
}
