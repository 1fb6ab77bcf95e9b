package export_test

// element is the definition of an element in ECMA-376 Part 1: its children in their order (name, name? name* name+, or a choice in
// parentheses), and its attributes as name=type, with ! if they are required. An element has children, a text of a simple type, or
// neither.
type element struct{ clause, children, attributes, text string }

const spreadsheetNS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"

// simpleTypes are patterns of the types of attributes and texts.
var simpleTypes = map[string]string{
	"boolean": `true|false|0|1`,
	"uint":    `\d+`,
	"int":     `-?\d+`,
	"double":  `-?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?`,
	"string":  `(?s).*`,
	"cell":    `[A-Z]{1,3}[1-9]\d{0,6}`,
	"ref":     `[A-Z]{1,3}[1-9]\d{0,6}(:[A-Z]{1,3}[1-9]\d{0,6})?`,
	"type":    `b|n|e|s|str|inlineStr|d`,
	"pane":    `bottomRight|topRight|bottomLeft|topLeft`,
	"state":   `split|frozen|frozenSplit`,
	"pattern": `none|solid|gray125`,
	"space":   `preserve|default`,
	"visible": `visible|hidden|veryHidden`,
}

// spreadsheetML has the elements of hark's workbooks, with the children that ECMA-376 Part 1 allows. A child that is not in this table is
// refused.
var spreadsheetML = map[string]element{
	"workbook": {clause: "18.2.27", children: "fileVersion? fileSharing? workbookPr? workbookProtection? bookViews? sheets functionGroups? externalReferences? " +
		"definedNames? calcPr? oleSize? customWorkbookViews? pivotCaches? smartTagPr? smartTagTypes? webPublishing? fileRecoveryPr* webPublishObjects? extLst?"},
	"fileVersion":  {clause: "18.2.13", attributes: "appName=string lastEdited=string lowestEdited=string rupBuild=string codeName=string"},
	"workbookPr":   {clause: "18.2.28", attributes: "date1904=boolean filterPrivacy=boolean backupFile=boolean codeName=string defaultThemeVersion=uint"},
	"bookViews":    {clause: "18.2.1", children: "workbookView+"},
	"workbookView": {clause: "18.2.30", attributes: "xWindow=int yWindow=int windowWidth=uint windowHeight=uint tabRatio=uint firstSheet=uint activeTab=uint"},
	"sheets":       {clause: "18.2.20", children: "sheet+"},
	"sheet":        {clause: "18.2.19", attributes: "name=string! sheetId=uint! state=visible r:id=string!"},
	"calcPr":       {clause: "18.2.2", attributes: "calcId=uint fullCalcOnLoad=boolean"},

	"worksheet": {clause: "18.3.1.99", children: "sheetPr? dimension? sheetViews? sheetFormatPr? cols* sheetData sheetCalcPr? sheetProtection? protectedRanges? " +
		"scenarios? autoFilter? sortState? dataConsolidate? customSheetViews? mergeCells? phoneticPr? conditionalFormatting* dataValidations? hyperlinks? " +
		"printOptions? pageMargins? pageSetup? headerFooter? rowBreaks? colBreaks? customProperties? cellWatches? ignoredErrors? smartTags? drawing? " +
		"drawingHF? picture? oleObjects? controls? webPublishItems? tableParts? extLst?"},
	"dimension":  {clause: "18.3.1.35", attributes: "ref=ref!"},
	"sheetViews": {clause: "18.3.1.88", children: "sheetView+ extLst?"},
	"sheetView": {clause: "18.3.1.87", children: "pane? selection* pivotSelection* extLst?",
		attributes: "showGridLines=boolean tabSelected=boolean topLeftCell=cell zoomScale=uint workbookViewId=uint!"},
	"pane":          {clause: "18.3.1.66", attributes: "xSplit=double ySplit=double topLeftCell=cell activePane=pane state=state"},
	"sheetFormatPr": {clause: "18.3.1.81", attributes: "baseColWidth=uint defaultColWidth=double defaultRowHeight=double! customHeight=boolean"},
	"cols":          {clause: "18.3.1.17", children: "col+"},
	"col":           {clause: "18.3.1.13", attributes: "min=uint! max=uint! width=double style=uint hidden=boolean bestFit=boolean customWidth=boolean"},
	"sheetData":     {clause: "18.3.1.80", children: "row*"},
	"row":           {clause: "18.3.1.73", children: "c* extLst?", attributes: "r=uint spans=string s=uint customFormat=boolean ht=double hidden=boolean customHeight=boolean"},
	"c":             {clause: "18.3.1.4", children: "f? v? is? extLst?", attributes: "r=cell s=uint t=type"},
	"v":             {clause: "18.3.1.96", text: "string"},
	"is":            {clause: "18.3.1.53", children: "t? r* rPh* phoneticPr?"},
	"t":             {clause: "18.4.12", text: "string", attributes: "xml:space=space"},

	"styleSheet":   {clause: "18.8.39", children: "numFmts? fonts? fills? borders? cellStyleXfs? cellXfs? cellStyles? dxfs? tableStyles? colors? extLst?"},
	"numFmts":      {clause: "18.8.31", children: "numFmt+", attributes: "count=uint"},
	"numFmt":       {clause: "18.8.30", attributes: "numFmtId=uint! formatCode=string!"},
	"fonts":        {clause: "18.8.23", children: "font*", attributes: "count=uint"},
	"font":         {clause: "18.8.22", children: "(b|i|strike|condense|extend|outline|shadow|u|vertAlign|sz|color|name|family|charset|scheme)*"},
	"b":            {clause: "18.8.2", attributes: "val=boolean"},
	"sz":           {clause: "18.4.11", attributes: "val=double!"},
	"color":        {clause: "18.8.3", attributes: "auto=boolean indexed=uint rgb=string theme=uint tint=double"},
	"name":         {clause: "18.8.29", attributes: "val=string!"},
	"family":       {clause: "18.8.18", attributes: "val=uint!"},
	"fills":        {clause: "18.8.21", children: "fill*", attributes: "count=uint"},
	"fill":         {clause: "18.8.20", children: "(patternFill|gradientFill)"},
	"patternFill":  {clause: "18.8.32", children: "fgColor? bgColor?", attributes: "patternType=pattern"},
	"borders":      {clause: "18.8.5", children: "border*", attributes: "count=uint"},
	"border":       {clause: "18.8.4", children: "start? end? left? right? top? bottom? diagonal? vertical? horizontal?", attributes: "diagonalUp=boolean diagonalDown=boolean outline=boolean"},
	"left":         {clause: "18.8.25", children: "color?", attributes: "style=string"},
	"right":        {clause: "18.8.36", children: "color?", attributes: "style=string"},
	"top":          {clause: "18.8.43", children: "color?", attributes: "style=string"},
	"bottom":       {clause: "18.8.6", children: "color?", attributes: "style=string"},
	"diagonal":     {clause: "18.8.13", children: "color?", attributes: "style=string"},
	"cellStyleXfs": {clause: "18.8.9", children: "xf+", attributes: "count=uint"},
	"cellXfs":      {clause: "18.8.10", children: "xf+", attributes: "count=uint"},
	"xf": {clause: "18.8.45", children: "alignment? protection? extLst?", attributes: "numFmtId=uint fontId=uint fillId=uint borderId=uint xfId=uint " +
		"quotePrefix=boolean applyNumberFormat=boolean applyFont=boolean applyFill=boolean applyBorder=boolean applyAlignment=boolean applyProtection=boolean"},
	"alignment":   {clause: "18.8.1", attributes: "horizontal=string vertical=string wrapText=boolean"},
	"cellStyles":  {clause: "18.8.8", children: "cellStyle+", attributes: "count=uint"},
	"cellStyle":   {clause: "18.8.7", attributes: "name=string xfId=uint! builtinId=uint"},
	"dxfs":        {clause: "18.8.15", children: "dxf*", attributes: "count=uint"},
	"tableStyles": {clause: "18.8.42", children: "tableStyle*", attributes: "count=uint defaultTableStyle=string defaultPivotStyle=string"},
}

// properties are the allowed elements of the two parts of properties, each at most once and in any order: of the package (ECMA-376 Part 2,
// 11.1) with the prefixes that programs expect, and of the application (Part 1, 22.2).
var (
	coreNames = "cp:category cp:contentStatus dcterms:created dc:creator dc:description dc:identifier cp:keywords dc:language " +
		"cp:lastModifiedBy cp:lastPrinted dcterms:modified cp:revision dc:subject dc:title cp:version"
	appNames = "Template Manager Company Pages Words Characters PresentationFormat Lines Paragraphs Slides Notes TotalTime HiddenSlides " +
		"MMClips ScaleCrop HeadingPairs TitlesOfParts LinksUpToDate CharactersWithSpaces SharedDoc HyperlinkBase HLinks HyperlinksChanged " +
		"DigSig Application AppVersion DocSecurity"
)
