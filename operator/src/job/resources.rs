//! Requests and limits of a container: what the spec says, and a formula for the rest.

use std::collections::BTreeMap;

use dbbackup_crds::{Quantity, QuantityError, Resources};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

const CPU: &str = "cpu";
const MEMORY: &str = "memory";
const DEFAULT_CPU: &str = "100m";

/// Requests and limits of a runner that may take `formula` bytes.
///
/// Memory defaults to it, as request and as limit; what the spec says
/// of one bounds the default of the other. There is no default limit of CPU: a
/// throttled runner takes longer and saves nothing.
pub(super) fn runner_resources(
    spec: Option<&Resources>,
    formula: u64,
) -> Result<ResourceRequirements, QuantityError> {
    container_resources(spec, formula, formula)
}

/// The same of a container for which so much memory is reserved, and that may take so much.
pub(super) fn container_resources(
    spec: Option<&Resources>,
    reserved: u64,
    most: u64,
) -> Result<ResourceRequirements, QuantityError> {
    let spec = spec.cloned().unwrap_or_default();
    let (mut requests, mut limits) = (spec.requests, spec.limits);
    let said = |map: &BTreeMap<String, Quantity>| map.get(MEMORY).map(Quantity::units).transpose();
    let (request, limit) = match (said(&requests)?, said(&limits)?) {
        (None, None) => (reserved, most),
        (Some(request), None) => (request, request.max(most)),
        (None, Some(limit)) => (limit.min(reserved), limit),
        (Some(request), Some(limit)) => (request, limit),
    };
    requests.entry(MEMORY.to_owned()).or_insert_with(|| Quantity(request.to_string()));
    limits.entry(MEMORY.to_owned()).or_insert_with(|| Quantity(limit.to_string()));
    if !limits.contains_key(CPU) {
        requests.entry(CPU.to_owned()).or_insert_with(|| Quantity(DEFAULT_CPU.to_owned()));
    }
    let api = |map: BTreeMap<String, Quantity>| {
        map.into_iter().map(|(name, quantity)| (name, ApiQuantity(quantity.0))).collect()
    };
    Ok(ResourceRequirements {
        requests: Some(api(requests)),
        limits: Some(api(limits)),
        claims: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMULA: u64 = 192 << 20;

    fn memory(request: Option<&str>, limit: Option<&str>) -> (String, String) {
        let map = |text: Option<&str>| {
            text.map(|text| (MEMORY.to_owned(), Quantity(text.into()))).into_iter().collect()
        };
        let spec = Resources { requests: map(request), limits: map(limit) };
        let built = runner_resources(Some(&spec), FORMULA).unwrap();
        let get = |map: Option<BTreeMap<String, ApiQuantity>>| map.unwrap()[MEMORY].0.clone();
        (get(built.requests), get(built.limits))
    }

    #[test]
    fn memory_defaults_to_the_formula_and_a_request_never_exceeds_its_limit() {
        let formula = FORMULA.to_string();
        assert_eq!(memory(None, None), (formula.clone(), formula.clone()));
        assert_eq!(memory(None, Some("64Mi")), ((64 << 20).to_string(), "64Mi".into()));
        assert_eq!(memory(None, Some("4Gi")), (formula.clone(), "4Gi".into()));
        assert_eq!(memory(Some("4Gi"), None), ("4Gi".into(), (4_u64 << 30).to_string()));
        assert_eq!(memory(Some("1Mi"), None), ("1Mi".into(), formula));
    }
}
