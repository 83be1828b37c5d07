"""Phrases that many stories share, as rules of the grammar; see `grammar` for the marks."""

# ruff: noqa: E501

RULES = {
    # time
    "once": "one {morning|afternoon|day|evening}|one {$dayadj |}{morning|afternoon|evening}|on a {$dayadj|certain} {morning|day|afternoon}|{early|late} one {morning|evening|afternoon}|one {Saturday|Monday|Sunday|Friday|Tuesday}[ in $season]",
    "later": "{later|later on|soon|soon after}|after {a while|lunch|an hour|supper|some time}|{before long|presently|by and by}|at {noon|dusk|last|teatime}|{that|the same} {evening|afternoon|night}",
    "nextday": "the next {morning|day|afternoon}|{two|three|four} days later|{a|one} week {later|after that}|{at dawn|at sunrise}|the following {day|morning|week}",
    "allday": "all {day|morning|afternoon}|for {an hour|hours}|through {the whole day|half the night}|until {dusk|supper|noon|the lamps were lit}|from {breakfast|dawn} to {supper|dusk}",
    "suddenly": "suddenly|all at once|just then|at that {moment|very moment|instant}|without {warning|a sound}|in a {flash|blink}",
    "finally": "at last|finally|in the end|after {much|a lot of} {work|thought|trouble}|when {evening|night} came",
    # manner
    "quietly": "{quietly|softly|gently}|{slowly|carefully}|{silently|shyly}|with {care|a smile|both hands}",
    "quickly": "{quickly|fast|swiftly}|{eagerly|at once}|{in a hurry|without waiting}|{breathlessly|hastily}",
    "sadly": "{sadly|glumly|miserably}|{in a small voice|with a sigh}|{bitterly|wearily}|{with tears|with a lump in the throat}",
    "gladly": "{happily|cheerfully|gladly}|{with a grin|with delight}|{proudly|joyfully|merrily}|{laughing|beaming}",
    "went": "{walked|went|ran|hurried}|{wandered|set off|strolled}|{marched|skipped|tramped|raced}",
    "looked": "{looked|searched|hunted}|{peered|peeked|felt}|{poked|rummaged|dug}",
    "said": "said|{whispered|murmured}|{declared|announced|remarked}",
    "asked": "asked|{wondered|inquired}",
    "cried": "{cried|shouted|called}|{exclaimed|yelled}|{gasped|squealed}",
    # feelings
    "glad": "{happy|glad|pleased}|{proud|delighted|thankful}|{cheerful|merry|content}|{relieved|lighthearted}",
    "sad": "{sad|unhappy|sorry}|{gloomy|miserable|lonely}|{worried|anxious}|{heartbroken|disappointed}",
    "scared": "{afraid|scared|frightened}|{nervous|uneasy}|{terrified|pale with fright}",
    "cross": "{angry|cross}|{furious|annoyed}|{sulky|grumpy|offended}",
    "very": "very|{rather|quite}|{terribly|truly|awfully}",
    "good": "{good|fine|splendid}|{wonderful|lovely|perfect}|{marvelous|grand|excellent}",
    "nice": "{kind|gentle}|{warm|friendly}|{patient|cheerful}",
    "promise": "promised|{vowed|agreed}|{swore|decided}",
    "tears": "{tears|two tears} {ran|rolled} down $his {cheeks|face}|$his {lip|chin} {trembled|shook}|$his {heart|stomach} {sank|felt heavy}|$he {sniffed|sighed} and {looked away|kicked a stone|sat down}",
    "joy": "$he {laughed {until $his sides ached|out loud|for joy}|{smiled|grinned} {from ear to ear|all the way home|again and again}}|$his {eyes|face} {shone|lit up}|$he {jumped|danced|hopped} {for joy|in a circle}|$his heart {leaped|felt light|sang}",
    "think": "{thought|knew|felt sure}|{believed|guessed|supposed}|{hoped|understood}",
    "treat": "a {bowl of soup|slice of $dish|cup of $drink|plate of dumplings|piece of toast|baked potato|ginger biscuit|dish of {figs|cherries|nuts}}",
    "dear": "{my dear|dear|little one|child}",
    # what goes on around
    "weather": "$sky|$wind {blew|stirred|tugged at the curtains|shook the {branches|shutters}}|there were $detail {everywhere|all about}|the {light|air} was $light",
    "around": "[far away, ]{you could hear $sound|there was the sound of $sound}|{somewhere|nearby}, {you could hear|came the sound of} $sound",
}

# How a story may begin.  Every plot starts with one of these and adds what it needs.
OPENINGS = """
{In|At} $town, a {small|quiet|busy|sleepy|old} $village{, | by $water, }{lived|there lived} a $trait {$child|young $child} {named|called} $hero[, who $habit].
$hero was {a|a $very} $trait $child {in|from} {$town|the $village of $town}[, and $he $habit].
It was a $dayadj $season {day|morning|afternoon}, and {while|as} $weather, $hero $went $path {to|toward} the $place.
There was {once|in $town} a $child {named|called} $hero who $habit{.| and was {known|said} to be $trait.| and lived {near|beside} the $place.}
It was {a $dayadj|another $dayadj|the first $dayadj} {day|morning} of $season in $town, and $weather. {Little|Young} $hero, {a $trait $child|$trait as ever|always $trait}, {was|stood|sat} {near|by|beside} the $place.
$hero lived {with|beside} $his $kin {in|near} {$town|the $place of $town|a $village called $town}. $he $habit{, for $he was $very $trait.|. {People|Neighbors} called $him $trait.}
{Everyone|Everybody|All the neighbors} in $town {knew|liked} $hero, {a $trait $child|the $trait $child} who $habit.
{Near|Beside|Not far from} the $place {in|of} $town {lived|there lived} $hero and $his $kin. It was {$season|$season in the $village}, and $weather.
"""

# Closing sentences that suit any story.
CLOSINGS = """
{That night|Before bed|At bedtime}, $hero {told|whispered to} $his $kin {everything|the whole story|all about it}, and {they {smiled|laughed} {together|about it}|the two of them {smiled|laughed}|both of them {smiled|nodded}}.
{From then on|After that|Ever since}, $hero {was|felt} {a little|much|somewhat} $after.
{So|And so} $hero {slept|went to bed} {soundly|early|with a smile}, {while|as} $weather.
{Even now|To this day|Even today}, {people|the neighbors|children} in $town {talk|speak|laugh} about {it|that $season|that day}.
{And|Then} {everyone|they all} {had|shared} $treat {by the {fire|window|stove}|in the {kitchen|garden}|together}.
$he {felt|was} $glad, and {the {whole|little}|all the} $village {seemed|looked} {brighter|kinder|warmer}.
{It had been|What} a $good {day|$season day}{, thought $hero|, and $hero knew it}.
{Outside|Beyond the window}, $weather, but {inside|in the house} {it was warm|all was well|nobody minded}.
"""
