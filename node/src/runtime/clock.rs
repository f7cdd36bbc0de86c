//! Between the system's time and the API's.

use std::time::{Duration, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;

/// The API's form of a time (nanoseconds and all).
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
    Timestamp::new(seconds, since.subsec_nanos().cast_signed()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The system's form of a time; before 1970 is 1970.
pub fn system_time(stamp: Timestamp) -> SystemTime {
    let nanos = u64::try_from(stamp.as_nanosecond()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// A time as objects carry it: whole seconds.
pub fn api_time(time: SystemTime) -> Time {
    let stamp = timestamp(time);
    Time(Timestamp::from_second(stamp.as_second()).unwrap_or(stamp))
}

/// A time as leases and events carry it: microseconds.
pub fn micro_time(time: SystemTime) -> MicroTime {
    let stamp = timestamp(time);
    let micros = stamp.as_microsecond();
    MicroTime(Timestamp::from_microsecond(micros).unwrap_or(stamp))
}

/// The current time through the actor system.
pub fn now() -> Time {
    api_time(actors::time::now())
}
