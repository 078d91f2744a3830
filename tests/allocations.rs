//! To let somebody pass, nothing is allocated.

#[path = "../benches/shared/decision.rs"]
mod decision;

use allocation_counter::measure;
use decision::Scene;
use vestibule::policy::Decision;

#[test]
fn ten_requirements_of_somebody_with_two_hundred_groups_allocate_nothing() {
    let scene = Scene::new();
    let visit = scene.at("/ten");
    let mut is_allowed = false;
    let counted = measure(|| is_allowed = matches!(visit.decide(), Decision::Allow(_)));
    assert!(is_allowed);
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
    assert_eq!(
        measure(|| drop(Box::new(1))).count_total,
        1,
        "and what is allocated would be counted"
    );
}

#[test]
fn an_expression_allocates_little() {
    let scene = Scene::new();
    for path in ["/cel", "/groups"] {
        let visit = scene.at(path);
        let mut is_allowed = false;
        let counted = measure(|| is_allowed = matches!(visit.decide(), Decision::Allow(_)));
        assert!(is_allowed, "{path}");
        assert!(counted.count_total < 40, "{path}: {counted:?}");
    }
}
